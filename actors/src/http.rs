//! The daemon over HTTP: `/metrics` for Prometheus, `/healthz` (is it alive?) and `/readyz` (would an
//! ADD succeed?) for whoever supervises it. Read only, and nothing secret.
//!
//! Anybody on the host may connect. Connections that say nothing keep nobody from being answered: where there
//! are too many, the oldest of them gives way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use slog::{Logger, debug, warn};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::board::Board;
use crate::messages::metrics::{Health, Render};

/// How many may wait in the kernel. With few, one who comes among many waits a second for its next try.
const BACKLOG: u32 = 4096;
/// A client that takes longer to say what it wants is hung up on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A client that takes longer to read its answer likewise.
const TIME_TO_TAKE: Duration = Duration::from_secs(10);

/// What the pages are made of.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) board: watch::Receiver<Board>,
    /// None if metrics are switched off.
    pub(crate) render: Option<Recipient<Render>>,
    pub(crate) health: Recipient<Health>,
    pub(crate) log: Logger,
}

/// Listens. A port that is taken is an error at start, not a surprise at the first scrape.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A daemon that is started again has its port at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the daemon ends, at most so many connections at a time. A scraper needs one; the others are
/// for those who hold one and say nothing.
pub(crate) async fn run(listener: TcpListener, pages: Rc<Pages>, most: u32) {
    let places = Rc::new(RefCell::new(Places::default()));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                warn!(pages.log, "accepting an HTTP connection"; "error" => %e);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Nobody is silent: all are being answered, and this one is asked to come again.
        let Some((place, gives_way)) = Place::take(&places, most as usize) else { continue };
        actix_rt::spawn(serve(stream, pages.clone(), place, gives_way));
    }
}

async fn serve(
    stream: TcpStream,
    pages: Rc<Pages>,
    place: Place,
    gives_way: oneshot::Receiver<Infallible>,
) {
    let service = service_fn(|request| {
        place.asks();
        answer(&pages, request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::time::timeout(HEADER_TIMEOUT + TIME_TO_TAKE, served);
    tokio::select! {
        served = served => {
            if let Ok(Err(e)) = served {
                debug!(pages.log, "HTTP connection"; "error" => %e);
            }
        }
        _ = gives_way => {}
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Places {
    open: usize,
    next: u64,
    /// Those that have not asked for anything, the oldest first. One whose sender is dropped gives way.
    silent: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

/// The place of one connection, until this is dropped.
#[derive(Debug)]
struct Place {
    number: u64,
    places: Rc<RefCell<Places>>,
    /// Where it has asked for something.
    kept: RefCell<Option<oneshot::Sender<Infallible>>>,
}

impl Place {
    /// A place, and what ends when it has to be given up. None if all are taken by those who have asked.
    fn take(
        places: &Rc<RefCell<Places>>,
        most: usize,
    ) -> Option<(Self, oneshot::Receiver<Infallible>)> {
        let mut all = places.borrow_mut();
        if all.open >= most {
            all.silent.pop_first()?;
        }
        let (keep, gives_way) = oneshot::channel();
        let number = all.next;
        all.next += 1;
        all.open += 1;
        all.silent.insert(number, keep);
        drop(all);
        Some((Self { number, places: places.clone(), kept: RefCell::default() }, gives_way))
    }

    /// It has asked for something, and is answered.
    fn asks(&self) {
        let keep = self.places.borrow_mut().silent.remove(&self.number);
        if keep.is_some() {
            self.kept.replace(keep);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.borrow_mut();
        all.silent.remove(&self.number);
        all.open -= 1;
    }
}

async fn answer(
    pages: &Pages,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        return Ok(page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()));
    }
    Ok(match request.uri().path() {
        "/metrics" => metrics(pages).await,
        "/healthz" => health(pages).await,
        "/readyz" => ready(pages),
        _ => page(StatusCode::NOT_FOUND, "text/plain", "/metrics /healthz /readyz\n".to_owned()),
    })
}

async fn metrics(pages: &Pages) -> Response<Full<Bytes>> {
    let Some(render) = &pages.render else {
        return page(StatusCode::NOT_FOUND, "text/plain", "metrics_enabled is false\n".to_owned());
    };
    match render.send(Render).await {
        Ok(text) => page(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(e) => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{e}\n")),
    }
}

async fn health(pages: &Pages) -> Response<Full<Bytes>> {
    let actors = pages.health.send(Health).await.unwrap_or_else(|_| vec!["metrics"]);
    let lanes = pages.board.borrow().lanes.stuck();
    let stuck: Vec<String> = actors.into_iter().map(str::to_owned).chain(lanes).collect();
    let status = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(status, "application/json", json!({ "stuck": stuck }).to_string())
}

fn ready(pages: &Pages) -> Response<Full<Bytes>> {
    let board = pages.board.borrow();
    let ready = board.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "reasons": board.reasons(),
        "warnings": board.warnings,
        "problems": board.problems,
        "policy_problems": board.policy_problems,
    });
    page(status, "application/json", body.to_string())
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
