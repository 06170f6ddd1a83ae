//! What the two ends of a lab say to each other. Compiled into both: into Trapline as part of
//! `src/lab/`, and into the lab's init. Virtio-serial ports carry it.
//!
//! - [`CONTROL`] carries frames: a kind, a length, a payload.
//! - [`TUNNEL`] carries pieces: a connection's number and a chunk.
//! - [`STDIN`], [`STDOUT`] and [`STDERR`] carry chunks: a length and that many bytes. A chunk of no
//!   bytes is the end of the stream, which a virtio-serial port cannot say by itself. Each stream has
//!   its own port, so that a stream nobody reads holds up nothing but itself.

use std::io::{self, Error, ErrorKind, Read, Write};

/// Port names, as the guest finds them in `/sys/class/virtio-ports/*/name`.
pub(crate) const CONTROL: &str = "trapline.control";
/// The command's standard input.
pub(crate) const STDIN: &str = "trapline.stdin";
/// The command's standard output, or everything its terminal shows.
pub(crate) const STDOUT: &str = "trapline.stdout";
/// The command's standard error.
pub(crate) const STDERR: &str = "trapline.stderr";

/// Connections to a socket of the command, made outside; only there when asked for.
pub(crate) const TUNNEL: &str = "trapline.tunnel";

/// The 9p tag of the host's root.
pub(crate) const ROOT_TAG: &str = "trapline.root";

/// On the kernel's command line: how many of the first processors the command, and all it starts, is kept off.
pub(crate) const SPARE_CPUS: &str = "trapline.spare_cpus";

/// Where the initramfs lists the modules the lab works through: one path a line, in order.
pub(crate) const MODULES_FIRST: &str = "/modules/first";
/// And those its command works with, loaded meanwhile.
pub(crate) const MODULES_LATER: &str = "/modules/later";

/// The most a stream carries in one chunk.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The most a frame carries: a command line and an environment are at most 2 MiB together (execve).
const FRAME_MAX: usize = 4 * 1024 * 1024;

/// One message on the control port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// To the lab, first and once: what to run.
    Run(Job),
    /// To the lab: send this signal to the command.
    Signal(u32),
    /// To the lab: the outer terminal has these rows and columns now.
    Resize(u16, u16),
    /// To the lab: nobody reads this stream any more (1 or 2).
    Closed(u32),
    /// From the lab: the command has been started.
    Started,
    /// From the lab, last: how the command ended. Bits 7:0 are its exit status or the signal that
    /// ended it; bit 8 is set for a signal.
    Ended(u32),
    /// From the lab, last: the command could not be started; the status a shell gives, and why.
    Refused(u32, String),
    /// From the lab, last: the lab itself could not be made.
    Broken(String),
}

/// A command and what it is to find around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Job {
    /// Program and arguments.
    pub(crate) argv: Vec<Vec<u8>>,
    /// The whole environment, `NAME=value`.
    pub(crate) env: Vec<Vec<u8>>,
    /// Working directory.
    pub(crate) cwd: Vec<u8>,
    /// Writable shares, outermost first.
    pub(crate) shares: Vec<Share>,
    /// The command gets a terminal of this many rows and columns; both zero: pipes.
    pub(crate) terminal: (u16, u16),
    /// The terminal takes standard error too.
    pub(crate) merge: bool,
    /// The socket of the command that connections from outside go to; empty: none.
    pub(crate) socket: Vec<u8>,
}

/// A directory that can be written, mounted over its own path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its 9p tag.
    pub(crate) tag: Vec<u8>,
    /// The directory.
    pub(crate) dir: Vec<u8>,
    /// Only this file in it is to be writable; empty: all of it.
    pub(crate) file: Vec<u8>,
}

impl Frame {
    /// Writes the frame in one piece.
    pub(crate) fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Run(job) => {
                job.encode(&mut body);
                1
            }
            Self::Signal(n) => number(&mut body, *n, 2),
            Self::Resize(rows, columns) => {
                number(&mut body, u32::from(*rows) << 16 | u32::from(*columns), 3)
            }
            Self::Closed(stream) => number(&mut body, *stream, 4),
            Self::Started => 16,
            Self::Ended(status) => number(&mut body, *status, 17),
            Self::Refused(status, why) => {
                number(&mut body, *status, 0);
                body.extend_from_slice(why.as_bytes());
                18
            }
            Self::Broken(why) => {
                body.extend_from_slice(why.as_bytes());
                19
            }
        };
        let mut frame = vec![kind];
        string(&mut frame, &body);
        to.write_all(&frame)?;
        to.flush()
    }

    /// Reads one frame.
    pub(crate) fn receive(from: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        let length = length(from)?;
        if length > FRAME_MAX {
            return Err(bad("a frame is longer than any can be"));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let mut rest = body.as_slice();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(match kind[0] {
            1 => Self::Run(Job::decode(&mut rest)?),
            2 => Self::Signal(take_number(&mut rest)?),
            3 => {
                let [r1, r0, c1, c0] = take_number(&mut rest)?.to_be_bytes();
                Self::Resize(u16::from_be_bytes([r1, r0]), u16::from_be_bytes([c1, c0]))
            }
            4 => Self::Closed(take_number(&mut rest)?),
            16 => Self::Started,
            17 => Self::Ended(take_number(&mut rest)?),
            18 => Self::Refused(take_number(&mut rest)?, text(rest)),
            19 => Self::Broken(text(rest)),
            _ => return Err(bad("a frame is of no known kind")),
        })
    }
}

impl Job {
    fn encode(&self, to: &mut Vec<u8>) {
        strings(to, &self.argv);
        strings(to, &self.env);
        string(to, &self.cwd);
        let shares: Vec<Vec<u8>> = self
            .shares
            .iter()
            .flat_map(|s| [s.tag.clone(), s.dir.clone(), s.file.clone()])
            .collect();
        strings(to, &shares);
        let (rows, columns) = self.terminal;
        number(to, u32::from(rows) << 16 | u32::from(columns), 0);
        number(to, u32::from(self.merge), 0);
        string(to, &self.socket);
    }

    fn decode(from: &mut &[u8]) -> io::Result<Self> {
        let argv = take_strings(from)?;
        let env = take_strings(from)?;
        let cwd = take_string(from)?;
        let shares = take_strings(from)?
            .chunks_exact(3)
            .map(|s| Share {
                tag: s[0].clone(),
                dir: s[1].clone(),
                file: s[2].clone(),
            })
            .collect();
        let [r1, r0, c1, c0] = take_number(from)?.to_be_bytes();
        Ok(Self {
            argv,
            env,
            cwd,
            shares,
            terminal: (u16::from_be_bytes([r1, r0]), u16::from_be_bytes([c1, c0])),
            merge: take_number(from)? != 0,
            socket: take_string(from)?,
        })
    }
}

/// Writes one chunk of a stream; an empty one ends it.
pub(crate) fn send_chunk(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(bytes.len() + 4);
    string(&mut chunk, bytes);
    to.write_all(&chunk)
}

/// Reads one chunk into `buffer` and gives its length; zero is the end of the stream.
pub(crate) fn receive_chunk(from: &mut impl Read, buffer: &mut [u8; CHUNK]) -> io::Result<usize> {
    let length = length(from)?;
    let room = buffer
        .get_mut(..length)
        .ok_or_else(|| bad("a chunk is longer than any can be"))?;
    from.read_exact(room)?;
    Ok(length)
}

/// Writes one piece of a connection; an empty one ends it.
pub(crate) fn send_piece(to: &mut impl Write, connection: u32, bytes: &[u8]) -> io::Result<()> {
    let mut piece = Vec::with_capacity(bytes.len() + 8);
    number(&mut piece, connection, 0);
    string(&mut piece, bytes);
    to.write_all(&piece)
}

/// Reads one piece into `buffer`: its connection and its length.
pub(crate) fn receive_piece(
    from: &mut impl Read,
    buffer: &mut [u8; CHUNK],
) -> io::Result<(u32, usize)> {
    let mut connection = [0; 4];
    from.read_exact(&mut connection)?;
    let length = receive_chunk(from, buffer)?;
    Ok((u32::from_le_bytes(connection), length))
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn number(to: &mut Vec<u8>, value: u32, kind: u8) -> u8 {
    to.extend_from_slice(&value.to_le_bytes());
    kind
}

fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    number(to, length, 0);
    to.extend_from_slice(bytes);
}

fn strings(to: &mut Vec<u8>, all: &[Vec<u8>]) {
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    number(to, count, 0);
    for one in all {
        string(to, one);
    }
}

fn length(from: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    usize::try_from(u32::from_le_bytes(bytes)).map_err(Error::other)
}

fn take_number(from: &mut &[u8]) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn take_string(from: &mut &[u8]) -> io::Result<Vec<u8>> {
    let length = length(from)?;
    let bytes = from
        .split_off(..length)
        .ok_or_else(|| bad("a string is longer than its frame"))?;
    Ok(bytes.to_vec())
}

fn take_strings(from: &mut &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let count = take_number(from)?;
    (0..count).map(|_| take_string(from)).collect()
}
