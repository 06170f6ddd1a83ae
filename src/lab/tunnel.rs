//! A socket of a command in the lab, reachable from outside.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

use super::switch::Switch;

/// Connections to `listener` out here are connections to `inside` in the lab.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// A listening socket that does not block.
    pub listener: Arc<UnixListener>,
    /// The path of the command's socket.
    pub inside: PathBuf,
}

/// Serves connections until `stopped` is hung up and `port` closed.
pub(super) fn open(
    listener: Arc<UnixListener>,
    port: UnixStream,
    stopped: io::PipeReader,
) -> io::Result<[JoinHandle<()>; 2]> {
    let from = port.try_clone()?;
    let switch = Switch::new(port);
    let accepting = Arc::clone(&switch);
    Ok([
        thread::spawn(move || switch.serve(from, || None)),
        thread::spawn(move || {
            let mut number = 0;
            while wait(&listener, &stopped) {
                if let Ok((stream, _)) = listener.accept()
                    && stream.set_nonblocking(false).is_ok()
                {
                    number += 1;
                    accepting.carry(number, stream);
                }
            }
        }),
    ])
}

/// Waits for a connection; false when told to stop.
fn wait(listener: &UnixListener, stopped: &io::PipeReader) -> bool {
    let mut fds = [
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
    ];
    let _ = poll(&mut fds, None);
    let [_, stop] = fds.map(|fd| !fd.revents().is_empty());
    !stop
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Both ends of a tunnel over a pair of sockets; inside answers each line with itself, twice.
    #[test]
    fn connections_share_a_port_and_keep_apart() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("outside")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let (stopped, stop) = io::pipe().unwrap();
        let threads = open(Arc::new(listener), near.try_clone().unwrap(), stopped).unwrap();

        let from = far.try_clone().unwrap();
        let switch = Switch::new(far.try_clone().unwrap());
        let inside = thread::spawn(move || {
            switch.serve(from, || {
                let (theirs, mut ours) = UnixStream::pair().unwrap();
                thread::spawn(move || {
                    let mut word = [0; 3];
                    while ours.read_exact(&mut word).is_ok() {
                        ours.write_all(&word.repeat(2)).unwrap();
                    }
                });
                Some(theirs)
            });
        });

        let mut clients: Vec<UnixStream> = (0..3)
            .map(|_| UnixStream::connect(dir.path().join("outside")).unwrap())
            .collect();
        let words = [b"one", b"two", b"six"];
        for (client, word) in clients.iter_mut().zip(words) {
            client.write_all(word).unwrap();
        }
        for (client, word) in clients.iter_mut().zip(words).rev() {
            let mut answer = [0; 6];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer.to_vec(), word.repeat(2));
        }

        drop(stop);
        near.shutdown(std::net::Shutdown::Both).unwrap();
        far.shutdown(std::net::Shutdown::Both).unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        inside.join().unwrap();
        let mut rest = Vec::new();
        assert_eq!(
            clients[0].read_to_end(&mut rest).unwrap(),
            0,
            "the lab has ended"
        );
    }
}
