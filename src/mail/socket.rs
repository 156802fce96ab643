//! A TCP connection by wasi:sockets, to an address of either family or to a name.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::resolve_addresses;
use wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use wasi::sockets::tcp::TcpSocket;
use wasi::sockets::tcp_create_socket::create_tcp_socket;
use wstd::future::FutureExt;
use wstd::io::{AsyncInputStream, AsyncOutputStream};
use wstd::runtime::AsyncPollable;
use wstd::time::Instant;

use super::dialogue::Stream;

/// How long connecting to an address may take.
const CONNECT: Duration = Duration::from_secs(30);

/// A connection. The streams are the socket's children and go before it: the order matters.
pub struct Socket {
    input: AsyncInputStream,
    output: AsyncOutputStream,
    _socket: TcpSocket,
    begun: Instant,
}

/// Connects to `host`, an IP address (IPv6 in brackets) or a name, of which every address is tried.
pub async fn connect(host: &str, port: u16) -> io::Result<Socket> {
    let network = instance_network();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match bare.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve(&network, host).await?,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address for `{host}`"));
    for address in addresses {
        match within(CONNECT, connect_to(&network, address, port)).await {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let what = format!("connecting to {address} took more than {} s", CONNECT.as_secs());
                last = io::Error::new(io::ErrorKind::TimedOut, what);
            }
            Err(error) => last = io::Error::other(format!("connecting to {address}: {error}")),
        }
    }
    Err(last)
}

async fn connect_to(network: &Network, address: IpAddr, port: u16) -> io::Result<Socket> {
    let (family, address) = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let address = Ipv4SocketAddress { port, address: (a, b, c, d) };
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(address))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            let address = (a, b, c, d, e, f, g, h);
            let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    };
    let failed = |error: ErrorCode| io::Error::other(error.name());
    let socket = create_tcp_socket(family).map_err(failed)?;
    socket.start_connect(network, address).map_err(failed)?;
    AsyncPollable::new(socket.subscribe()).wait_for().await;
    let (input, output) = socket.finish_connect().map_err(failed)?;
    let (input, output) = (AsyncInputStream::new(input), AsyncOutputStream::new(output));
    Ok(Socket { input, output, _socket: socket, begun: Instant::now() })
}

/// All addresses of a name (wasi:sockets/ip-name-lookup).
async fn resolve(network: &Network, name: &str) -> io::Result<Vec<IpAddr>> {
    let wrong = |error: ErrorCode| io::Error::other(format!("looking up `{name}`: {}", error.name()));
    let lookup = resolve_addresses(network, name).map_err(wrong)?;
    let mut addresses = Vec::new();
    loop {
        match lookup.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => addresses.push(IpAddr::from([a, b, c, d])),
            Ok(Some(IpAddress::Ipv6((a, b, c, d, e, f, g, h)))) => {
                addresses.push(IpAddr::from([a, b, c, d, e, f, g, h]));
            }
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => AsyncPollable::new(lookup.subscribe()).wait_for().await,
            Err(error) => return Err(wrong(error)),
        }
    }
}

impl Stream for Socket {
    fn now(&self) -> Duration {
        self.begun.elapsed().into()
    }

    async fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        within(limit, self.input.read(buffer)).await
    }

    async fn write(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        within(limit, self.output.write_all(bytes)).await
    }
}

async fn within<T>(limit: Duration, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match operation.timeout(wstd::time::Duration::from(limit)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
