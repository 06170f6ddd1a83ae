use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use event_manager::{EventManager, SubscriberOps};

use super::super::{Client, Verbs};
use super::*;

/// A server on a thread of its own, as the main thread runs it.
struct Served {
    _dir: tempfile::TempDir,
    place: Place,
    name: Name,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let name: Name = "guest".parse().unwrap();
        let (at, as_name) = (path.clone(), name.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut verbs = Verbs::new();
            verbs.add("echo", "say it again", |words| Reply::done(words));
            verbs.plain("big", "say much", || Reply::done("x".repeat(4 << 20)));
            let server = ControlServer::new(&Place::at(at).unwrap(), &as_name, verbs).unwrap();
            let mut manager = EventManager::new().unwrap();
            manager.add_subscriber(server);
            ready.send(()).unwrap();
            while !stopped.load(Ordering::Acquire) {
                manager.run_with_timeout(10).unwrap();
            }
        });
        is_ready.recv().unwrap();
        Self {
            _dir: dir,
            place: Place::at(path).unwrap(),
            name,
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = self.place.connect(&self.name).unwrap().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn echo(&self, word: &str) -> Reply {
        Client::connect(&self.place, &self.name)
            .unwrap()
            .call("echo", &[word.into()])
            .unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
                assert_eq!(
                    self.place.names().unwrap(),
                    [],
                    "the socket outlived its run"
                );
            }
        }
    }
}

fn line(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_request_gets_its_reply() {
    let served = Served::start();
    assert_eq!(served.echo("hello"), Reply::done(["hello"]));
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let served = Served::start();
    let mut stream = served.connect();
    let ask = |n| format!("{{\"verb\":\"echo\",\"args\":[\"{n}\"]}}\n");
    let all: String = (0..100).map(ask).collect();
    stream.write_all(all.as_bytes()).unwrap();
    let replies = BufReader::new(&stream).lines().take(100);
    for (n, reply) in replies.enumerate() {
        assert_eq!(
            reply.unwrap(),
            format!("{{\"ok\":true,\"result\":[\"{n}\"]}}")
        );
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let served = Served::start();
    let mut stream = served.connect();
    for byte in b"\n{\"verb\":\"echo\"}\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(line(&stream), "{\"ok\":true,\"result\":[]}\n");
}

#[test]
fn what_is_no_request_is_refused_and_the_client_may_go_on() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.write_all(b"status\n{\"verb\":\"echo\"}\n").unwrap();
    let mut lines = BufReader::new(&stream).lines();
    let refused = lines.next().unwrap().unwrap();
    assert!(refused.contains("\"kind\":\"usage\""), "{refused}");
    assert!(lines.next().unwrap().unwrap().contains("true"));
}

#[test]
fn a_huge_line_ends_its_client_and_no_other() {
    let served = Served::start();
    let mut stream = served.connect();
    let _ = stream.write_all(&vec![b'x'; LINE_MAX * 4]);
    let mut said = String::new();
    // The rest of the line may come back as a reset after the reply.
    let _ = stream.read_to_string(&mut said);
    assert!(
        said.is_empty() || said.contains("at most 65536 bytes"),
        "{said}"
    );
    assert_eq!(served.echo("still here"), Reply::done(["still here"]));
}

#[test]
fn a_client_that_never_reads_costs_one_reply_and_no_time() {
    let served = Served::start();
    let mut deaf = served.connect();
    for _ in 0..64 {
        deaf.write_all(b"{\"verb\":\"big\"}\n").unwrap();
    }
    for _ in 0..20 {
        assert_eq!(served.echo("x"), Reply::done(["x"]));
    }
    // All 64 replies are there for the taking, one after the other.
    let got = BufReader::new(&deaf).lines().take(64);
    assert!(got.map(Result::unwrap).all(|l| l.len() > 4 << 20));
}

#[test]
fn many_clients_displace_the_oldest() {
    let served = Served::start();
    let mut streams: Vec<UnixStream> = (0..CLIENTS + 8).map(|_| served.connect()).collect();
    let mut newest = streams.pop().unwrap();
    newest.write_all(b"{\"verb\":\"echo\"}\n").unwrap();
    assert!(line(&newest).contains("true"));
    assert_eq!(line(&streams[0]), "", "the oldest is still served");
}

#[test]
fn the_last_request_is_answered_though_its_client_shut_its_side() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.write_all(b"{\"verb\":\"big\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(line(&stream).len() > 4 << 20);
}
