//! The vCPU threads against guests of a few bytes, in real mode: what leaves the guest arrives, what
//! is half done is retired, and orders are obeyed whatever the guest does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use trapline::bus::{
    Access, Answer, Bus, BusPort, Device, Effect, EffectSink, Effects, ResetKind, StateError,
    Window,
};
use trapline::mem::{Gpa, GuestRam, HugePages};
use trapline::msr::{Cpu, MsrAccess, MsrAnswer, MsrHandler, Op};
use trapline::trace::{Probe, Space};
use trapline::vm::{Fleet, VcpuEnd, VcpuNotice, Vm, VmSpec, open};

const CODE: u64 = 0x1000;
const MMIO: u64 = 0xd_0000;

/// Remembers every access; reads count up.
#[derive(Clone, Default)]
struct Scribe(Arc<Mutex<Vec<Seen>>>, Arc<AtomicU64>);

/// Window, offset, width, and the value of a write.
type Seen = (u8, u64, u8, Option<u64>);

impl Device for Scribe {
    fn label(&self) -> &'static str {
        "scribe"
    }
    fn windows(&self) -> Vec<Window> {
        vec![
            Window {
                id: 0,
                name: "ports",
                space: Space::Pio,
                base: Some(0x100),
                len: 16,
            },
            Window {
                id: 1,
                name: "memory",
                space: Space::Mmio,
                base: Some(MMIO),
                len: 0x1000,
            },
        ]
    }
    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        self.0
            .lock()
            .unwrap()
            .push((at.window, at.offset, at.width.bytes(), None));
        Ok(self.1.fetch_add(1, Ordering::Relaxed))
    }
    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        self.0
            .lock()
            .unwrap()
            .push((at.window, at.offset, at.width.bytes(), Some(value)));
        if at.window == 0 && at.offset == 15 {
            effects.push(Effect::Exit(value));
        }
        Ok(())
    }
    fn reset(&mut self, _: ResetKind) {}
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
        Ok(())
    }
}

struct Ends {
    fleet: Fleet,
    exits: mpsc::SyncSender<u64>,
    ends: mpsc::SyncSender<(u8, VcpuEnd)>,
}

impl EffectSink for Ends {
    fn apply(&self, effect: Effect) {
        if let Effect::Exit(value) = effect {
            self.fleet.order_pause();
            let _ = self.exits.send(value);
        }
    }
}

impl VcpuNotice for Ends {
    fn ended(&self, vcpu: u8, end: VcpuEnd) {
        let _ = self.ends.send((vcpu, end));
    }
}

/// Reads give the index back with a mark, writes of odd values fault.
struct Marks;

impl MsrHandler for Marks {
    fn answer(&self, access: MsrAccess, _: &mut dyn Cpu) -> MsrAnswer {
        match access.op {
            Op::Read => MsrAnswer::Value(0xabcd_0000_0000 | u64::from(access.index)),
            Op::Write(value) if value & 1 == 0 => MsrAnswer::Value(0),
            Op::Write(_) => MsrAnswer::Fault,
        }
    }
}

struct Rig {
    fleet: Fleet,
    scribe: Scribe,
    ram: GuestRam,
    exits: mpsc::Receiver<u64>,
    ends: mpsc::Receiver<(u8, VcpuEnd)>,
    vm: Vm,
}

impl Rig {
    /// One vCPU per program, each in real mode at its own page.
    fn new(programs: &[&[u8]]) -> Self {
        Self::with(programs, false)
    }

    /// The same, with KVM collecting the writes to the scribe's first port.
    fn collecting(programs: &[&[u8]]) -> Self {
        Self::with(programs, true)
    }

    fn with(programs: &[&[u8]], collecting: bool) -> Self {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let spec = VmSpec {
            vcpus: programs.len(),
            log_dirty: false,
        };
        // The page of the scribe's window is taken out by giving RAM only below it.
        let mut vm = Vm::new(open().unwrap(), &ram, spec).unwrap();
        if collecting {
            vm.collect_writes(0x100, 1).unwrap();
        }
        let mut vcpus = Vec::new();
        for (id, program) in (0_u8..).zip(programs) {
            let at = CODE + u64::from(id) * 0x1000;
            ram.write(Gpa(at), program).unwrap();
            let vcpu = vm.vcpu(id).unwrap();
            let mut sregs = vcpu.sregs().unwrap();
            (sregs.cs.base, sregs.cs.selector) = (0, 0);
            vcpu.fd().set_sregs(&sregs).unwrap();
            let mut regs = vcpu.regs().unwrap();
            (regs.rip, regs.rsp, regs.rflags) = (at, 0x8000, 2);
            vcpu.fd().set_regs(&regs).unwrap();
            let runnable = kvm_bindings::kvm_mp_state { mp_state: 0 };
            vcpu.fd().set_mp_state(runnable).unwrap();
            vcpus.push(vcpu);
        }
        let scribe = Scribe::default();
        let mut bus = Bus::new();
        bus.attach(Box::new(scribe.clone())).unwrap();
        let fleet = Fleet::new(programs.len());
        let (exit_to, exits) = mpsc::sync_channel(64);
        let (end_to, ends) = mpsc::sync_channel(64);
        let post = Arc::new(Ends {
            fleet: fleet.clone(),
            exits: exit_to,
            ends: end_to,
        });
        let port = BusPort {
            bus: Arc::new(bus),
            sink: Arc::clone(&post) as _,
        };
        let msrs: Arc<dyn MsrHandler> = Arc::new(Marks);
        let notice = post as Arc<dyn VcpuNotice>;
        fleet
            .start(vcpus, &port, &msrs, &notice, |_| Probe::off())
            .unwrap();
        Self {
            fleet,
            scribe,
            ram,
            exits,
            ends,
            vm,
        }
    }

    fn run_to_exit(&self) -> u64 {
        self.fleet.resume();
        let value = self
            .exits
            .recv_timeout(Duration::from_secs(20))
            .expect("no exit");
        self.fleet.pause().unwrap();
        value
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.scribe.0.lock().unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.fleet.stop();
    }
}

/// `mov dx, 0x10f; out dx, al`: the exit of every program.
const EXIT: &[u8] = &[0xba, 0x0f, 0x01, 0xee];

fn program(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn port_accesses_arrive_with_their_width_and_value() {
    // mov dx,0x100; mov eax,0x11223344; out dx,al; out dx,ax; out dx,eax; in al,dx
    let code = program(&[
        &[
            0xba, 0x00, 0x01, 0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xee, 0xef, 0x66, 0xef, 0xec,
        ],
        EXIT,
    ]);
    let rig = Rig::new(&[&code]);
    assert_eq!(
        rig.run_to_exit(),
        0,
        "the read's value is what AL holds at the end"
    );
    let seen = rig.seen();
    assert_eq!(
        &seen[..4],
        [
            (0, 0, 1, Some(0x44)),
            (0, 0, 2, Some(0x3344)),
            (0, 0, 4, Some(0x1122_3344)),
            (0, 0, 1, None)
        ]
    );
}

#[test]
fn string_output_is_one_access_per_element() {
    // mov dx,0x100; mov si,0x6000; mov cx,3; cld; rep outsw
    let code = program(&[
        &[
            0xba, 0x00, 0x01, 0xbe, 0x00, 0x60, 0xb9, 0x03, 0x00, 0xfc, 0xf3, 0x6f,
        ],
        &[0xb0, 0x07],
        EXIT,
    ]);
    let rig = Rig::new(&[&code]);
    rig.ram.write(Gpa(0x6000), &[1, 0, 2, 0, 3, 0]).unwrap();
    assert_eq!(rig.run_to_exit(), 7);
    let values: Vec<_> = rig.seen().into_iter().filter_map(|s| s.3).collect();
    assert_eq!(values, [1, 2, 3, 7]);
}

#[test]
fn msr_answers_reach_the_guest_and_a_refused_write_faults() {
    // The #GP vector (13) of the real-mode IVT points at 0x5000, which exits with 0x99.
    // mov ecx,0x4b564dff; rdmsr; mov dx,0x100; out dx,eax; mov eax,1; wrmsr
    let code = program(&[
        &[0x66, 0xb9, 0xff, 0x4d, 0x56, 0x4b, 0x0f, 0x32],
        &[0xba, 0x00, 0x01, 0x66, 0xef],
        &[0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x30],
        &[0xb0, 0x11],
        EXIT,
    ]);
    let rig = Rig::new(&[&code]);
    rig.ram
        .write(Gpa(13 * 4), &[0x00, 0x50, 0x00, 0x00])
        .unwrap();
    rig.ram
        .write(Gpa(0x5000), &program(&[&[0xb0, 0x99], EXIT]))
        .unwrap();
    assert_eq!(rig.run_to_exit(), 0x99);
    assert_eq!(rig.seen()[0], (0, 0, 4, Some(0x4b56_4dff)));
}

#[test]
fn a_pause_retires_the_access_that_is_half_done() {
    // again: in al,dx; inc bx; jmp again, with DX = 0x100
    let rig = Rig::new(&[&[0xba, 0x00, 0x01, 0xec, 0x43, 0xeb, 0xfc]]);
    for _ in 0..50 {
        rig.fleet.resume();
        std::thread::sleep(Duration::from_millis(1));
        rig.fleet.pause().unwrap();
        let regs = rig.fleet.ask(0, |v| v.regs().unwrap()).unwrap();
        let reads = rig.scribe.1.load(Ordering::SeqCst);
        if reads == 0 {
            continue;
        }
        // Out of KVM with the read completed: AL holds the last value given out, and RIP is past `in`
        // or past what followed, never at an `in` whose value was given out but not stored.
        assert_eq!(regs.rax & 0xff, reads.wrapping_sub(1) & 0xff);
        let counted = regs.rbx & 0xffff;
        let behind = reads & 0xffff;
        assert!(
            counted == behind || counted + 1 == behind,
            "BX {counted}, reads {behind}"
        );
        assert_eq!(
            regs.rip == CODE + 4,
            counted + 1 == behind,
            "RIP {:#x}",
            regs.rip
        );
    }
    assert!(
        rig.scribe.1.load(Ordering::SeqCst) > 0,
        "the guest never ran"
    );
}

#[test]
fn a_guest_that_never_leaves_is_still_paused_asked_and_stopped() {
    let rig = Rig::new(&[&[0xfa, 0xeb, 0xfe], &[0xeb, 0xfe]]);
    rig.fleet.resume();
    for _ in 0..20 {
        let rip = rig.fleet.ask(1, |v| v.regs().unwrap().rip).unwrap();
        assert_eq!(rip, CODE + 0x1000);
    }
    rig.fleet.pause().unwrap();
    rig.fleet.resume();
    rig.fleet.stop();
    assert!(rig.fleet.ask(0, |_| ()).is_err());
}

/// `mov dx,0x100; mov cx,COUNT; again: mov al,cl; (add al,TAG); out dx,al; loop again`
fn writes(count: u16, tag: u8) -> Vec<u8> {
    let [low, high] = count.to_le_bytes();
    let head = [0xba, 0x00, 0x01, 0xb9, low, high];
    program(&[&head, &[0x88, 0xc8, 0x04, tag, 0xee, 0xe2, 0xf9]])
}

#[test]
fn collected_writes_arrive_whole_in_order_and_before_what_follows_them() {
    // More than the ring holds: KVM leaves the guest for the one that finds it full.
    let code = program(&[&writes(600, 0), &[0xb0, 0x07], EXIT]);
    let rig = Rig::collecting(&[&code]);
    assert_eq!(rig.run_to_exit(), 7);
    let values: Vec<_> = rig.seen().into_iter().filter_map(|s| s.3).collect();
    let mut expected: Vec<u64> = (1..=600).rev().map(|n| n & 0xff).collect();
    expected.push(7);
    assert_eq!(values, expected);
    let counts = rig.fleet.counts(0).unwrap();
    let (exits, collected) = (
        counts.pio.load(Ordering::Relaxed),
        counts.collected.load(Ordering::Relaxed),
    );
    assert_eq!(exits + collected, 601);
    assert!(exits <= 4, "{exits} exits");
}

#[test]
fn writes_of_other_widths_are_not_collected_and_keep_their_place() {
    // mov dx,0x100; mov ax,0x0201; out dx,al; out dx,ax; out dx,al
    let code = program(&[
        &[0xba, 0x00, 0x01, 0xb8, 0x01, 0x02, 0xee, 0xef, 0xee],
        EXIT,
    ]);
    let rig = Rig::collecting(&[&code]);
    rig.run_to_exit();
    let seen: Vec<_> = rig.seen().into_iter().map(|s| (s.2, s.3)).collect();
    let expected = [(1, Some(1)), (2, Some(0x201)), (1, Some(1)), (1, Some(1))];
    assert_eq!(seen, expected);
}

#[test]
fn a_collected_write_of_a_guest_that_goes_on_is_there_after_a_nudge() {
    let rig = Rig::collecting(&[&program(&[&writes(3, 0), &[0xeb, 0xfe]])]);
    rig.fleet.resume();
    let ring = rig.vm.ring().expect("this KVM collects");
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        assert!(std::time::Instant::now() < limit, "{seen:?}");
        if !ring.is_empty() {
            rig.fleet.nudge(0);
        }
        std::thread::yield_now();
        seen.extend(rig.seen().into_iter().filter_map(|s| s.3));
    }
    assert_eq!(seen, [3, 2, 1]);
}

#[test]
fn a_pause_leaves_nothing_collected() {
    // again: out dx,al; inc bx; jmp again, with DX = 0x100, on two vCPUs that share the ring
    let code: &[u8] = &[0xba, 0x00, 0x01, 0xee, 0x43, 0xeb, 0xfc];
    let rig = Rig::collecting(&[code, code]);
    for _ in 0..50 {
        rig.fleet.resume();
        std::thread::sleep(Duration::from_millis(1));
        rig.fleet.pause().unwrap();
        assert!(rig.vm.ring().unwrap().is_empty());
    }
    let made: u64 = (0..2)
        .map(|vcpu| {
            let regs = rig.fleet.ask(vcpu, |v| v.regs().unwrap()).unwrap();
            // An `out` that is done and not yet counted leaves RIP on the `inc`.
            let at = if vcpu == 0 { CODE } else { CODE + 0x1000 };
            (regs.rbx & 0xffff) + u64::from(regs.rip == at + 4)
        })
        .sum();
    let wrap = |n: u64| n & 0xffff;
    assert_eq!(wrap(rig.seen().len() as u64), wrap(made));
}

#[test]
fn nothing_runs_between_an_exit_effect_and_the_resume() {
    // again: inc byte [0x7000]; mov dx,0x10f; out dx,al; jmp again
    let rig = Rig::new(&[&[0xfe, 0x06, 0x00, 0x70, 0xba, 0x0f, 0x01, 0xee, 0xeb, 0xf6]]);
    for expected in 1..=20 {
        rig.run_to_exit();
        std::thread::sleep(Duration::from_millis(1));
        let mut count = [0];
        rig.ram.read(Gpa(0x7000), &mut count).unwrap();
        assert_eq!(count[0], expected);
    }
}

#[test]
fn a_saved_vcpu_goes_on_where_it_was_after_a_restore() {
    let rig = Rig::new(&[&[0xfe, 0x06, 0x00, 0x70, 0xba, 0x0f, 0x01, 0xee, 0xeb, 0xf6]]);
    rig.run_to_exit();
    let saved = rig.fleet.ask(0, |v| v.save().unwrap()).unwrap();
    let regs = *saved.regs();
    rig.run_to_exit();
    rig.run_to_exit();
    let back = rig
        .fleet
        .ask(0, move |v| {
            v.restore(&saved).unwrap();
            v.regs().unwrap()
        })
        .unwrap();
    assert_eq!(
        (back.rip, back.rflags, back.rdx),
        (regs.rip, regs.rflags, regs.rdx)
    );
    rig.run_to_exit();
    let mut count = [0];
    rig.ram.read(Gpa(0x7000), &mut count).unwrap();
    assert_eq!(count[0], 4);
}

#[test]
fn a_triple_fault_is_reported_as_one() {
    // lidt [0x7000] with limit 0; mov eax,cr0; or al,1; mov cr0,eax; ud2
    let rig = Rig::new(&[&[
        0x0f, 0x01, 0x1e, 0x00, 0x70, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x0f, 0x0b,
    ]]);
    rig.fleet.resume();
    let (vcpu, end) = rig.ends.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((vcpu, end), (0, VcpuEnd::TripleFault));
}

#[test]
fn a_refused_msr_is_named() {
    let rig = Rig::new(&[&[0xeb, 0xfe]]);
    let error = rig
        .fleet
        .ask(0, |v| {
            let entry = |index, data| kvm_bindings::kvm_msr_entry {
                index,
                data,
                ..Default::default()
            };
            v.set_msrs(&[entry(0x174, 0), entry(0xdead_beef, 5)])
                .unwrap_err()
                .to_string()
        })
        .unwrap();
    assert!(
        error.contains("0xdeadbeef to 0x5") && error.contains("1 of 2"),
        "{error}"
    );
}
