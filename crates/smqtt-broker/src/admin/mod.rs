//! The admin listener: plain HTTP on a thread of its own, so that who asks slows no client.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while all workers move, else 503 |
//! | `GET /readyz` | 200 while clients are admitted, else 503 |
//! | `GET /metrics` | [OpenMetrics](https://openmetrics.io) text |
//! | `GET /clients` | sessions as JSON, page by page |
//! | `POST /drain` | begins to drain |
//!
//! With a token, all but the first two ask for it. What a browser sends is refused: a page that
//! someone looks at on this machine shall not reach this listener by way of the browser.

pub(crate) mod clients;
mod metrics;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use crate::Error;
use crate::config::Admin;
use crate::lifecycle::Stage;
use crate::shared::Shared;

/// The running listener; stops when dropped.
#[derive(Debug)]
pub(crate) struct AdminServer {
    address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// What requests are answered from.
#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
    token: Option<Token>,
    metrics: metrics::Metrics,
    loopback: bool,
}

/// The address is taken, the token read.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: std::net::TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

/// Requests served at a time.
const CONNECTIONS: usize = 32;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may last.
const LONGEST: Duration = Duration::from_secs(60);
/// A worker that has not looked at its timers for so long does not move.
const STUCK_SECONDS: u64 = 10;

impl AdminServer {
    /// Takes the address, if there is one.
    ///
    /// # Errors
    /// [`Error`] when it cannot be listened on, or the token cannot be read.
    pub(crate) fn bind(config: &Admin) -> Result<Option<Bound>, Error> {
        let Some(address) = config.listen else {
            return Ok(None);
        };
        let token = config.token_file.as_deref().map(Token::read).transpose()?;
        let bind = || {
            let socket = std::net::TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Some(Bound {
                socket,
                address,
                token,
            }))
        };
        bind().map_err(|source| Error::AdminListen { address, source })
    }

    /// Serves.
    ///
    /// # Errors
    /// [`Error::System`].
    pub(crate) fn start(bound: Bound, shared: Arc<Shared>) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("the admin listener's runtime"))?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(bound.socket).map_err(system("the admin listener"))?
        };
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let state = Arc::new(State {
            metrics: metrics::Metrics::new(shared.clone()),
            shared,
            token: bound.token,
            loopback: bound.address.ip().is_loopback(),
        });
        let thread = thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = stopped.notified() => {}
                        () = serve(listener, state) => {}
                    }
                });
                // Handlers of requests that are not done end here.
                runtime.shutdown_background();
            })
            .map_err(system("the admin listener's thread"))?;
        Ok(AdminServer {
            address: bound.address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the admin listener cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(state.answer(&request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = tokio::time::timeout(LONGEST, connection).await;
            drop(place);
        });
    }
}

type Answer = Response<Full<Bytes>>;

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if let Some(refusal) = self.refusal(request) {
            return refusal;
        }
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        match (request.uri().path(), get) {
            ("/healthz", true) => match is_alive(&self.shared) {
                true => text(StatusCode::OK, "ok"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not move"),
            },
            ("/readyz", true) => match self.shared.lifecycle.stage() {
                Stage::Running => text(StatusCode::OK, "ready"),
                Stage::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
                Stage::Stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            },
            ("/metrics", true) => self.metrics.answer(),
            ("/clients", true) => clients::answer(&self.shared, request.uri().query()).await,
            ("/drain", false) if request.method() == Method::POST => match self.shared.drain() {
                true => text(StatusCode::ACCEPTED, "draining"),
                false => text(StatusCode::OK, "on its way out already"),
            },
            ("/drain", _) => not_allowed("POST"),
            ("/healthz" | "/readyz" | "/metrics" | "/clients", false) => not_allowed("GET"),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics, /clients and POST /drain",
            ),
        }
    }

    /// Why a request is not answered.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Answer> {
        let header = |name| request.headers().get(name);
        // A page in a browser would come with an origin, or under a name that its owner made
        // resolve to this address.
        let foreign =
            header(ORIGIN).is_some() || self.loopback && !header(HOST).is_none_or(is_local_name);
        if foreign {
            return Some(text(
                StatusCode::FORBIDDEN,
                "this listener is not for browsers; ask for a loopback address or localhost",
            ));
        }
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        let admitted = match &self.token {
            Some(token) if !open => header(AUTHORIZATION).is_some_and(|sent| token.is(sent)),
            _ => true,
        };
        (!admitted).then(|| {
            text(
                StatusCode::UNAUTHORIZED,
                "send the token of admin.token_file as `Authorization: Bearer TOKEN`",
            )
        })
    }
}

fn is_local_name(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = match host.parse::<SocketAddr>() {
        Ok(address) => return address.ip().is_loopback(),
        Err(_) => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Whether all workers have looked at their timers lately.
pub(crate) fn is_alive(shared: &Shared) -> bool {
    let up = shared.started.elapsed().as_secs();
    shared
        .counters
        .iter()
        .all(|worker| worker.alive_at.get() + STUCK_SECONDS >= up)
}

fn text(status: StatusCode, text: &str) -> Answer {
    respond(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn not_allowed(method: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, method);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    answer
}

/// What a request has to show.
struct Token(Zeroizing<Vec<u8>>);

impl Token {
    fn read(path: &std::path::Path) -> Result<Token, Error> {
        let text = smqtt_pki::files::read_private(
            path,
            MAX_TOKEN,
            "write a token of 16 or more characters to admin.token_file",
        )
        .map_err(|error| Error::TlsFiles(error.to_string()))?;
        let token = Zeroizing::new(text.trim_ascii().to_vec());
        if token.len() < MIN_TOKEN {
            return Err(Error::Config(format!(
                "{}: the token is too short to be a secret: use {MIN_TOKEN} or more characters",
                path.display()
            )));
        }
        Ok(Token(token))
    }

    /// Compares in a time that does not tell how much of it was right.
    fn is(&self, header: &HeaderValue) -> bool {
        let Some(sent) = header.as_bytes().strip_prefix(b"Bearer ") else {
            return false;
        };
        sent.len() == self.0.len()
            && sent
                .iter()
                .zip(&*self.0)
                .fold(0, |different, (a, b)| different | (a ^ b))
                == 0
    }
}

const MIN_TOKEN: usize = 16;
const MAX_TOKEN: u64 = 4 * 1024;

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for (host, local) in [
            ("localhost:9883", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9883", true),
            ("127.0.0.1", true),
            ("[::1]:9883", true),
            ("[::1]", true),
            ("evil.example:9883", false),
            ("192.0.2.1", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(
                is_local_name(&HeaderValue::from_static(host)),
                local,
                "{host}"
            );
        }
    }

    #[test]
    fn a_token_is_asked_for_whole() {
        let token = Token(Zeroizing::new(b"0123456789abcdef".to_vec()));
        for (sent, right) in [
            ("Bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcdeg", false),
            ("Bearer 0123456789abcde", false),
            ("Basic 0123456789abcdef", false),
            ("Bearer ", false),
        ] {
            assert_eq!(token.is(&HeaderValue::from_static(sent)), right, "{sent}");
        }
    }
}
