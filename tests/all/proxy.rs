//! A compressing proxy in front: a real nginx, with gzip on for everything.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::host::{Folder, Host, Kind, free_address, guest};
use crate::jobs::component;
use crate::server::Server;
use crate::wire::{Connection, Response};

struct Nginx {
    address: std::net::SocketAddr,
    _server: Server,
    _folder: Folder,
}

impl Nginx {
    fn before(host: &Host) -> Nginx {
        let (folder, address) = (Folder::new(), free_address());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.0.display()))
            .concat();
        let config = format!(
            "daemon off; pid {0}/pid; error_log stderr notice; events {{}}\n\
             http {{ access_log off; {temporary}\n\
             gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;\n\
             server {{ listen {address}; location / {{ proxy_pass http://{1}; }}\n\
             location /api/ {{ proxy_pass http://{1}/; proxy_set_header X-Forwarded-Prefix /api; }} }} }}",
            folder.0.display(),
            host.address
        );
        fs::write(folder.0.join("nginx.conf"), config).unwrap();
        let sbin = Path::new("/usr/sbin/nginx");
        let mut command = Command::new(if sbin.exists() { sbin } else { Path::new("nginx") });
        // Its workers are its children: without them it ends as a whole when it is killed.
        command.args(["-g", "master_process off;"]);
        command.arg("-p").arg(&folder.0).arg("-c").arg(folder.0.join("nginx.conf"));
        let server = Server::start(command);
        Nginx { address, _server: server, _folder: folder }
    }

    fn get(&self, path: &str) -> Response {
        let mut client = Connection::open_soon(self.address);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        ));
        client.response("GET")
    }
}

/// An ack has the status 202, and nginx compresses only 200, 403 and 404.
#[test]
fn an_ack_keeps_its_size_through_nginx_with_gzip_on() {
    let (host, _recorder) = guest(Kind::Wasmtime);
    let ack = Nginx::before(&host).get("/text?key=proxied");
    assert_eq!((ack.status, ack.text().as_str()), (202, "We'll email you as soon as this is done."));
    assert_eq!(ack.header("content-length"), Some("40"));
    assert_eq!(ack.header("content-encoding"), None);
    assert_eq!(ack.header("cache-control"), Some("no-transform"));
}

/// What README warns of: nginx does not heed `no-transform`, so that an ack with the status 200 does
/// get compressed, and loses its `Content-Length`. If this fails, nginx has learnt it.
#[test]
fn nginx_compresses_a_200_in_spite_of_no_transform() {
    let (host, _recorder) = guest(Kind::Wasmtime);
    let ack = Nginx::before(&host).get("/long-text?key=proxied");
    assert_eq!((ack.status, ack.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(ack.header("cache-control"), Some("no-transform"));
    assert_eq!(ack.header("content-length"), None);
}

/// Behind a path prefix, the URLs of an answer work; events come one by one though nginx buffers; and no
/// wait is longer than nginx's patience.
#[test]
fn jobs_are_followed_through_nginx_below_a_prefix() {
    let data = Folder::new();
    let host = component(Kind::Wasmtime, &data.0).start();
    let nginx = Nginx::before(&host);
    let mut client = Connection::open_soon(nginx.address);
    let ack = client.post("/api/jobs/demo", "", br#"{"steps":2,"step_ms":1000}"#);
    let status = ack.json()["status"].as_str().unwrap().to_owned();
    assert_eq!((ack.header("location"), status.starts_with("/api/jobs/")), (Some(status.as_str()), true));
    let mut events = Connection::open(nginx.address);
    events.send(format!("GET {status}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    events.wait_for("event: progress");
    assert_eq!(client.get(&status).json()["output"], serde_json::Value::Null, "the events came at the end");
    assert!(events.response("GET").text().contains("event: end"));
    let other = client.post("/api/jobs/demo", "", br#"{"steps":1,"step_ms":1000}"#);
    let other = other.header("location").unwrap().to_owned();
    let wait = format!("GET {other} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=600\r\n\r\n");
    client.send(wait);
    assert_eq!(client.response("GET").header("preference-applied"), Some("wait=50"));
    let job = client.get(&status).json();
    let output = client.get(job["output"].as_str().unwrap());
    assert_eq!((output.status, output.text().as_str()), (200, r#"{"steps":2}"#));
}
