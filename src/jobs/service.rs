//! A service: workers, and routes beside them. What [`jobs!`](crate::jobs!) makes a component of.

use std::cell::OnceCell;
use std::fmt::{self, Display};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::config::Config;
use super::http;
use super::worker::{Worker, Workers, upstream};
use crate::{BODY_LIMIT, Bytes, IDLE, Reply, Request};

/// Makes workers the component's [`wasi:http/incoming-handler`](https://github.com/WebAssembly/wasi-http): a service
/// with the whole HTTP contract, whose jobs survive whatever happens to its host.
///
/// In one line, each worker under the name of its function:
///
/// ```no_run
/// # use afterack::jobs::{Failure, Job, Output};
/// afterack::jobs!(resize, report);
/// # async fn resize(job: Job) -> Result<Output, Failure> { Ok(Output::empty()) }
/// # async fn report(job: Job) -> Result<Output, Failure> { Ok(Output::empty()) }
/// # fn main() {}
/// ```
///
/// Or by a [`Service`](crate::jobs::Service), with terms of theirs and with routes beside them:
///
/// ```no_run
/// # use afterack::{Ack, AckError, Bytes, Reply, Request};
/// # use afterack::jobs::{Failure, Job, Output, Service, Worker};
/// afterack::jobs!(Service::new().worker(Worker::new("resize", resize).attempts(3)).routes(routes));
/// # async fn resize(job: Job) -> Result<Output, Failure> { Ok(Output::empty()) }
///
/// async fn routes(request: Request<Bytes>, reply: Reply) -> Result<(), AckError> {
///     reply.finish(Ack::text(format!("{} is none of the service's paths", request.uri().path()))).await;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// The settings are environment variables: see README.
#[macro_export]
macro_rules! jobs {
    ($($worker:ident),+ $(,)?) => {
        $crate::jobs!(
            $crate::jobs::Service::new()$(.worker($crate::jobs::Worker::new(stringify!($worker), $worker)))+
        );
    };
    ($service:expr $(,)?) => {
        const _: () = {
            // Names that no expression of a crate's own means.
            fn __afterack_service() -> $crate::jobs::Service {
                $service
            }

            async fn __afterack_serve(
                request: $crate::Request<$crate::Bytes>,
                reply: $crate::Reply,
            ) -> ::core::result::Result<(), ::core::convert::Infallible> {
                $crate::jobs::serve(__afterack_service, request, reply).await;
                Ok(())
            }

            $crate::export!(
                __afterack_serve,
                limits = |head| $crate::jobs::limit(__afterack_service, head),
                idle = $crate::jobs::idle(),
                patience = $crate::jobs::patience,
                early = $crate::jobs::early
            );
        };
    };
}

/// A handler of requests, boxed.
type Routes = Rc<dyn Fn(Request<Bytes>, Reply) -> Pin<Box<dyn Future<Output = Result<(), String>>>>>;

/// Workers, and what answers the requests that are not the service's.
#[derive(Clone, Default)]
pub struct Service {
    pub(crate) workers: Rc<Workers>,
    pub(crate) routes: Option<Routes>,
    /// What is wrong with the upstreams that the settings name.
    pub(crate) mistake: Option<String>,
}

impl Service {
    /// A service without a worker.
    pub fn new() -> Service {
        Service::default()
    }

    /// Adds a worker: `POST /jobs/{name}`.
    ///
    /// # Panics
    /// If another one has its name, or that is not 1 to 64 characters of `a-z 0-9 - _ .`, or is `retry`.
    pub fn worker(mut self, worker: Worker) -> Service {
        Rc::make_mut(&mut self.workers).add(worker);
        self
    }

    /// Adds a worker for each upstream that the settings name: `AFTERACK_UPSTREAM_REPORT=http://…` makes
    /// `POST /jobs/report` a job that another program does. An upstream of another worker's name is a mistake in the
    /// settings, and every answer says so; so call this last.
    pub fn upstreams(mut self) -> Service {
        let Ok(config) = Config::get() else { return self };
        for one in &config.upstreams {
            if self.workers.find(&one.name).is_ok() {
                let variable = one.name.to_ascii_uppercase().replace('-', "_");
                let mistake =
                    format!("AFTERACK_UPSTREAM_{variable}: `{}` is a worker of this service", one.name);
                self.mistake.get_or_insert(mistake);
            } else {
                self = self.worker(upstream(one.clone(), config.body as usize));
            }
        }
        self
    }

    /// What answers all requests but those for `/jobs…`, `/drain`, `/healthz` and `/metrics`: a handler as
    /// [`export!`](crate::export!) takes it. It may [`submit`](super::submit) jobs; they are worked on after it has
    /// returned. `AFTERACK_TOKEN` and `AFTERACK_ORIGINS` are not its business.
    pub fn routes<H, E>(self, handler: H) -> Service
    where
        H: AsyncFn(Request<Bytes>, Reply) -> Result<(), E> + 'static,
        E: Display,
    {
        let handler = Rc::new(handler);
        let routes: Routes = Rc::new(move |request, reply| {
            let handler = handler.clone();
            Box::pin(async move { handler(request, reply).await.map_err(|error| format!("{error:#}")) })
        });
        Service { routes: Some(routes), ..self }
    }

    /// The service of this instance.
    fn of(make: fn() -> Service) -> Rc<Service> {
        thread_local! {
            static SERVICE: OnceCell<Rc<Service>> = const { OnceCell::new() };
        }
        SERVICE.with(|service| service.get_or_init(|| Rc::new(make())).clone())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Answers a request, and works.
pub async fn serve(make: fn() -> Service, request: Request<Bytes>, reply: Reply) {
    http::handle(&Service::of(make), request, reply).await;
}

/// How long an upload may go without progress.
pub fn idle() -> Duration {
    Config::get().map_or(IDLE, |config| config.idle)
}

/// The largest body of a request that begins like this, in bytes.
pub fn limit(make: fn() -> Service, head: &Request<()>) -> u64 {
    let own = head.uri().path().strip_prefix("/jobs/").and_then(|name| {
        let service = Service::of(make);
        service.workers.find(name).ok()?.terms().body
    });
    own.unwrap_or_else(|| Config::get().map_or(BODY_LIMIT, |config| config.body))
}
