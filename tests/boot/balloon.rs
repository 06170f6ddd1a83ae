//! Memory that goes back to the host while Linux runs: what the host asks for, and what the guest reports
//! as free. Linux's own figures, the host's and the balloon's have to agree.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use trapline::kernels::{Cache, Kernel};

use super::command;
use super::common::{Case, Need, TRAPLINE};

pub(crate) const CASES: &[Case] = &[
    linux(
        "the_host_takes_memory_from_a_guest_and_gives_it_back",
        balloon,
    ),
    linux("memory_that_a_guest_frees_goes_back_to_the_host", freed),
    Case {
        name: "a_balloon_that_cannot_be_says_why",
        needs: &[Need::Kvm],
        run: refusals,
    },
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

const MIB: u64 = 1 << 20;
/// The guest is emulated twice over in a lab.
const PATIENCE: Duration = Duration::from_secs(90);

/// `trapline ctl NAME WORDS...`: its status, its JSON, and what it says of a refusal.
fn ctl(name: &str, words: &[&str]) -> (Option<i32>, Value, String) {
    let mut ctl = Command::new(TRAPLINE);
    ctl.args(["ctl", name, "--json"]).args(words);
    let output = ctl.output().expect("ctl starts");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), answer["items"][0].clone(), said)
}

/// A guest with a balloon, a script that waits for a line from here at each `read`, and its console.
struct Guest {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    console: BufReader<ChildStdout>,
    /// What it printed so far.
    heard: String,
}

/// The guest ended before its time.
#[derive(Debug)]
struct Gone;

impl Guest {
    fn boot(name: &'static str, kernel: &Kernel, append: &str, script: &str) -> Self {
        let mut trapline = command([&kernel.name, "--name", name, "--device", "balloon"]);
        trapline
            .args(["--module", "virtio_pci", "--module", "virtio_balloon"])
            .args(["-a", append, "--timeout", "240s", "--exec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = trapline.spawn().expect("trapline starts");
        Self {
            name,
            input: child.stdin.take().expect("piped"),
            console: BufReader::new(child.stdout.take().expect("piped")),
            child,
            heard: String::new(),
        }
    }

    /// The numbers on the line that begins with `word`.
    fn hear(&mut self, word: &str) -> Result<Vec<u64>, Gone> {
        loop {
            let mut line = Vec::new();
            let read = self.console.read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return Err(Gone);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            self.heard.push_str(&line);
            let mut words = line.split_whitespace();
            if words.next() == Some(word) {
                return Ok(words.map_while(|word| word.parse().ok()).collect());
            }
        }
    }

    fn go_on(&mut self) {
        // One that is gone is noticed when it is listened to.
        let _ = self.input.write_all(b"go\n");
    }

    /// `ctl NAME memory`.
    fn memory(&self) -> Result<Value, Gone> {
        match ctl(self.name, &["memory"]) {
            (Some(0), memory, _) => Ok(memory),
            _ => Err(Gone),
        }
    }

    fn held(&self) -> Result<u64, Gone> {
        Ok(self.memory()?["held"].as_u64().expect("a figure"))
    }

    /// Waits until its memory is as it should be.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value, Gone> {
        let start = Instant::now();
        loop {
            let memory = self.memory()?;
            if is(&memory) {
                return Ok(memory);
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {memory:#}");
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn set(&self, size: &str) -> Result<(), Gone> {
        match ctl(self.name, &["balloon", size]) {
            (Some(0), ..) => Ok(()),
            _ => Err(Gone),
        }
    }
}

fn bytes(memory: &Value, figure: &str) -> u64 {
    memory["balloon"][figure].as_u64().expect("a figure")
}

/// Boots and looks; again when QEMU spoiled the run (`linux::tried`).
fn with_guest(boot: impl Fn() -> Guest, look: impl Fn(&mut Guest) -> Result<(), Gone>) {
    for attempt in 1.. {
        let mut guest = boot();
        let looked = look(&mut guest);
        drop(guest.input);
        let mut rest = Vec::new();
        let _ = guest.console.read_to_end(&mut rest);
        let status = guest.child.wait().expect("waits").code();
        if looked.is_ok() && status == Some(0) {
            return;
        }
        let console = format!("{}{}", guest.heard, String::from_utf8_lossy(&rest));
        let spoiled = trapline::lab::inside() && matches!(status, Some(70..=72));
        assert!(spoiled && attempt < 3, "{looked:?} {status:?}\n{console}");
        eprintln!("made again after status {status:?}");
    }
}

/// Debian's stock kernels: virtio is modules of theirs.
fn kernels() -> Vec<Kernel> {
    let all = Cache::from_env().and_then(|cache| cache.list());
    let mut all = all.expect("kernels");
    all.retain(|kernel| kernel.flavour.as_deref() == Some("debian"));
    assert!(!all.is_empty(), "trapline kernel get debian");
    all
}

const FIGURES: &str =
    "now() { awk -v w=$1 '/^MemTotal|^MemFree/{w = w \" \" $2} END{print w}' /proc/meminfo; }; ";

/// A kernel that poisons free pages has touched all of memory, and its reports free none (5.5.6.6): what
/// the host gets is the balloon's alone.
fn balloon() {
    let script = FIGURES.to_owned() + "now ready; read go; now shrunk; read go; now grown";
    let kernel = kernels().remove(0);
    let boot = || Guest::boot("test-balloon", &kernel, "page_poison=1", &script);
    with_guest(boot, |guest| {
        let ready = guest.hear("ready")?;
        let before = guest.held()?;
        guest.set("64M")?;
        let full = |memory: &Value| bytes(memory, "actual") == 64 * MIB;
        let memory = guest.until("a full balloon", full)?;
        assert_eq!(bytes(&memory, "returned"), 64 * MIB, "{memory:#}");
        let held = memory["held"].as_u64().expect("a figure");
        assert!(
            before - held > 60 * MIB,
            "{before} before, {held} with a full balloon"
        );
        guest.go_on();
        let shrunk = guest.hear("shrunk")?;
        assert_eq!(ready[0] - shrunk[0], 64 << 10, "MemTotal in KiB");
        assert!(ready[1] - shrunk[1] > 60 << 10, "{ready:?} {shrunk:?}");
        // The guest's own figures are of some moment before.
        let told = |memory: &Value| {
            let total = &memory["balloon"]["statistics"]["total"];
            total.as_u64() == Some(shrunk[0] << 10)
        };
        guest.until("new statistics", told)?;

        guest.set("0")?;
        let empty = |memory: &Value| bytes(memory, "actual") == 0;
        let memory = guest.until("an empty balloon", empty)?;
        assert_eq!(bytes(&memory, "deflated"), 64 * MIB, "{memory:#}");
        guest.go_on();
        assert_eq!(guest.hear("grown")?[0], ready[0]);
        Ok(())
    });
}

/// With INTx, for a change; and with kernels from both sides of 6.11, which number the queue of reports
/// differently.
fn freed() {
    let script = "mkdir /m && mount -t tmpfs -o size=150m none /m && echo ready && read go
        dd if=/dev/zero of=/m/x bs=1M count=100 && echo filled && read go
        rm /m/x && echo removed && read go";
    for kernel in kernels() {
        let boot = || Guest::boot("test-freed", &kernel, "pci=nomsi", script);
        with_guest(boot, |guest| {
            guest.hear("ready")?;
            // What the boot freed is gone first.
            guest.until("a first report", |memory| {
                bytes(memory, "reported") > 90 * MIB
            })?;
            let before = guest.held()?;
            guest.go_on();
            guest.hear("filled")?;
            let filled = guest.held()?;
            assert!(
                filled - before > 80 * MIB,
                "{before} before, {filled} with 100 MiB more in use"
            );
            guest.go_on();
            guest.hear("removed")?;
            // A report is of whole blocks of 2 MiB; the ends of what was free lie in others.
            let fallen = |memory: &Value| {
                let held = memory["held"].as_u64().expect("a figure");
                held + 80 * MIB < filled
            };
            let memory = guest.until("memory given back", fallen)?;
            let (reported, kept) = (bytes(&memory, "reported"), bytes(&memory, "kept"));
            assert_eq!(
                (bytes(&memory, "returned"), kept),
                (reported, 0),
                "{memory:#}"
            );
            assert_eq!(bytes(&memory, "nonsense"), 0);
            guest.go_on();
            Ok(())
        });
    }
}

fn refusals() {
    let while_it_hangs = |devices: &[&str], look: &dyn Fn()| {
        let mut trapline = command([":hang", "--hang", "0s", "--name", "test-no-balloon"]);
        trapline.args(devices).stdout(Stdio::piped());
        trapline.stderr(Stdio::null());
        let mut child = trapline.spawn().expect("trapline starts");
        let mut first = [0];
        let mut console = child.stdout.take().expect("piped");
        console.read_exact(&mut first).expect("the guest prints");
        look();
        ctl("test-no-balloon", &["stop"]);
        assert_eq!(child.wait().expect("waits").code(), Some(76));
    };
    let refused = |words: &[&str], why: &str| {
        let (status, _, said) = ctl("test-no-balloon", words);
        assert_eq!(status, Some(64), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    };
    while_it_hangs(&[], &|| {
        refused(&["balloon", "64M"], "--device balloon");
        let (_, memory, _) = ctl("test-no-balloon", &["memory"]);
        assert_eq!(memory["size"], 256 * MIB);
        assert!(memory["held"].as_u64().expect("a figure") < 64 * MIB);
    });
    while_it_hangs(&["--device", "balloon"], &|| {
        refused(&["balloon", "much"], "not a size");
        refused(&["balloon", "1", "2"], "one size");
        refused(
            &["balloon", "257M"],
            "larger than the guest's memory (256 MiB)",
        );
        refused(&["memory", "now"], "takes no words");
        let (status, memory, _) = ctl("test-no-balloon", &["balloon", "64M"]);
        assert_eq!((status, bytes(&memory, "target")), (Some(0), 64 * MIB));
        let text = memory["text"].as_str().expect("words");
        assert!(text.contains("no driver for it (virtio_balloon)"), "{text}");
    });
    let twice = super::boot([":hello", "--device", "balloon", "--device", "balloon"]);
    twice.ends(64).says("there can be only one balloon");
}
