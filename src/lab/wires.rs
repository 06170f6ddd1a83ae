//! The sockets between this process and QEMU, made in pairs: nothing to connect to lies in the file
//! system, so nobody else can.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// One side of them.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) console: UnixStream,
    pub(super) control: UnixStream,
    pub(super) stdin: UnixStream,
    pub(super) stdout: UnixStream,
    pub(super) stderr: UnixStream,
    pub(super) tunnel: UnixStream,
}

impl Ends {
    /// Both sides: ours, and QEMU's.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (console, control) = (UnixStream::pair()?, UnixStream::pair()?);
        let (stdin, stdout) = (UnixStream::pair()?, UnixStream::pair()?);
        let (stderr, tunnel) = (UnixStream::pair()?, UnixStream::pair()?);
        let ours = Self {
            console: console.0,
            control: control.0,
            stdin: stdin.0,
            stdout: stdout.0,
            stderr: stderr.0,
            tunnel: tunnel.0,
        };
        let theirs = Self {
            console: console.1,
            control: control.1,
            stdin: stdin.1,
            stdout: stdout.1,
            stderr: stderr.1,
            tunnel: tunnel.1,
        };
        Ok((ours, theirs))
    }

    pub(super) fn into_fds(self) -> Vec<OwnedFd> {
        let all = [
            self.console,
            self.control,
            self.stdin,
            self.stdout,
            self.stderr,
            self.tunnel,
        ];
        all.into_iter().map(OwnedFd::from).collect()
    }
}
