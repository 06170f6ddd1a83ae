use proptest::prelude::*;

use super::*;

/// 64-bit mode, CPL 0, with 1 GiB pages that map everything to itself; `at` is where memory is not
/// zero.
fn machine(rip: u64, rsp: u64) -> VcpuPicture {
    let mut sregs = kvm_sregs {
        cr0: 0x8005_0033,
        cr2: 0xdead_0000_0000_0000,
        cr3: 0x1000,
        cr4: 0x20,
        efer: 0xd01,
        ..kvm_sregs::default()
    };
    (sregs.cs.l, sregs.cs.selector) = (1, 0x10);
    VcpuPicture {
        vcpu: 0,
        regs: kvm_regs {
            rip,
            rsp,
            rflags: 0x46,
            ..kvm_regs::default()
        },
        sregs,
        last_exits: vec!["outb 0x3f8 <- 0x41".into()],
    }
}

/// Physical memory: tables that map the first GiB to itself, and what the test puts there.
fn memory(parts: &[(u64, &[u8])]) -> impl Fn(u64, &mut [u8]) -> bool + use<> {
    let mut ram = vec![0; 0x20_0000];
    ram[0x1000..0x1008].copy_from_slice(&0x2003_u64.to_le_bytes());
    ram[0x2000..0x2008].copy_from_slice(&0x83_u64.to_le_bytes());
    for (at, bytes) in parts {
        let at = usize::try_from(*at).unwrap();
        ram[at..at + bytes.len()].copy_from_slice(bytes);
    }
    move |at, bytes| {
        let Ok(at) = usize::try_from(at) else {
            return false;
        };
        let Some(from) = at.checked_add(bytes.len()).and_then(|end| ram.get(at..end)) else {
            return false;
        };
        bytes.copy_from_slice(from);
        true
    }
}

fn lookup(address: u64) -> Option<(String, u64)> {
    [
        (0x10_3000, "third"),
        (0x10_2000, "second"),
        (0x10_0000, "first"),
    ]
    .into_iter()
    .find(|(start, _)| (*start..0x10_4000).contains(&address))
    .map(|(start, name)| (name.to_owned(), address - start))
}

fn names(slide: Option<u64>) -> Names<'static> {
    Names::new(&lookup, 0x10_0000..0x10_4000, slide)
}

// first: push rbp; mov rbp,rsp; call second; ud2
const FIRST: &[u8] = &[
    0x55, 0x48, 0x89, 0xe5, 0xe8, 0xf7, 0x1f, 0x00, 0x00, 0x0f, 0x0b,
];

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn code_is_shown_before_and_after_rip_with_names() {
    let read = memory(&[(0x10_0000, FIRST)]);
    let report = VcpuFindings::of(&machine(0x10_0004, 0x8000), &read, &names(None));
    let text: Vec<&str> = report.code.iter().map(|l| l.text.as_str()).collect();
    assert_eq!(
        text[..4],
        ["push rbp", "mov rbp, rsp", "call 0x102000", "ud2"]
    );
    assert!(report.code[2].current && !report.code[1].current);
    assert_eq!(report.code[2].bytes, "e8f71f0000");
    assert_eq!(
        report.code[2].target.as_ref().unwrap().to_string(),
        "second+0x0"
    );
    assert_eq!(report.symbol.unwrap().to_string(), "first+0x4");
}

#[test]
fn boundaries_before_rip_are_found_without_names() {
    let read = memory(&[(0x10_0000, FIRST)]);
    let report = VcpuFindings::of(&machine(0x10_0009, 0x8000), &read, &Names::none());
    let at = report.code.iter().position(|l| l.current).unwrap();
    assert_eq!(report.code[at].text, "ud2");
    assert_eq!(report.code[at - 1].text, "call 0x102000");
}

#[test]
fn code_is_decoded_as_the_code_segment_says() {
    let read = memory(&[(0x1_0100, &[0xb8, 0x34, 0x12, 0x90, 0x90])]);
    let mut picture = machine(0x100, 0x8000);
    picture.sregs = kvm_sregs::default();
    picture.sregs.cs.base = 0x1_0000;
    let report = VcpuFindings::of(&picture, &read, &Names::none());
    let current = |r: &VcpuFindings| r.code.iter().find(|l| l.current).unwrap().text.clone();
    assert_eq!(
        (report.bits, current(&report)),
        (16, "mov ax, 0x1234".into())
    );
    picture.sregs.cs.db = 1;
    let report = VcpuFindings::of(&picture, &read, &Names::none());
    assert_eq!(
        (report.bits, current(&report)),
        (32, "mov eax, 0x90901234".into())
    );
}

#[test]
fn a_backtrace_follows_frame_pointers_and_doubts_the_rest() {
    let stack = words(&[
        7, 0x10_3010, // left over
        0x8020,    // [rbp]: the next frame
        0x10_2040, 0, // [0x8020]: the last frame
        0x10_0009,
    ]);
    let read = memory(&[(0x8000, &stack)]);
    let mut picture = machine(0x10_3000, 0x8000);
    picture.regs.rbp = 0x8010;
    let report = VcpuFindings::of(&picture, &read, &names(None));
    let lines: Vec<(String, bool)> = report
        .backtrace
        .iter()
        .map(|f| (f.symbol.as_ref().unwrap().to_string(), f.certain))
        .collect();
    let expected = [
        ("third+0x0", true),
        ("third+0x10", false),
        ("second+0x40", true),
        ("first+0x9", true),
    ];
    assert_eq!(lines, expected.map(|(n, c)| (n.to_owned(), c)));

    // Without names only the chain is worth a line.
    let report = VcpuFindings::of(&picture, &read, &Names::none());
    let addresses: Vec<u64> = report.backtrace.iter().map(|f| f.address.0).collect();
    assert_eq!(addresses, [0x10_3000, 0x10_2040, 0x10_0009]);
}

#[test]
fn a_moved_kernel_has_its_names() {
    let read = memory(&[]);
    let report = VcpuFindings::of(
        &machine(0x10_0004 + 0x20_0000, 0),
        &read,
        &names(Some(0x20_0000)),
    );
    assert_eq!(report.symbol.unwrap().to_string(), "first+0x4");
}

#[test]
fn what_cannot_be_read_is_said() {
    let picture = machine(0xffff_ffff_8100_0000, 0xffff_c900_0000_0000);
    let read = memory(&[]);
    let text = VcpuFindings::of(&picture, &read, &Names::none()).to_string();
    assert!(text.contains("the memory at RIP cannot be read"), "{text}");
    assert!(text.contains("the memory at RSP cannot be read"), "{text}");
    assert!(text.contains("walk of rip: 0xffffffff81000000 PML4 0x0 -> not present in the PML4"));
    assert!(
        text.contains("walk of cr2: 0xdead000000000000 is not canonical"),
        "{text}"
    );
}

#[test]
fn registers_lost_to_init_are_told() {
    let mut picture = machine(0xfff0, 0);
    picture.sregs = kvm_sregs::default();
    let text = VcpuFindings::of(&picture, &memory(&[]), &Names::none()).to_string();
    assert!(text.contains("registers after INIT"), "{text}");
}

#[test]
fn the_text_has_everything() {
    let read = memory(&[(0x10_0000, FIRST), (0x8000, &words(&[1, 0x10_2040]))]);
    let console = vec!["[    1.575025] Kernel panic - not syncing: x".into()];
    let picture = machine(0x10_0004, 0x8000);
    let post_mortem = PostMortem::of(&[picture], console, &read, &names(Some(0)));
    let text = post_mortem.to_string();
    for part in [
        "vCPU 0 in 64-bit code at CPL 0, first+0x4",
        "   rip 0000000000100004 rflags 0000000000000046",
        "rflags [PF ZF]",
        "cr0 [PE MP ET NE WP AM PG] cr4 [PAE] efer [SCE LME LMA NXE]",
        " cs 0010 base",
        "idt 0x0 limit 0x0",
        "  -> 0000000000100004 e8f71f0000             call 0x102000  ; second+0x0",
        "0000000000008000 0000000000000001 0000000000102040",
        "    ? 0000000000102040 second+0x40",
        "walk of rip: 0x100004 PML4 0x2003 PDPT 0x83 -> 0x100004 1G rwx",
        "    outb 0x3f8 <- 0x41",
        "  [    1.575025] Kernel panic - not syncing: x",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let json = serde_json::to_value(&post_mortem).unwrap();
    assert_eq!(json["vcpus"][0]["code"][2]["target"], "second+0x0");
    assert_eq!(
        json["vcpus"][0]["registers"][0],
        serde_json::json!(["rip", "0x100004"])
    );
    assert_eq!(json["kaslr_slide"], "0x0");
}

#[test]
fn what_repeats_is_told_once() {
    let read = memory(&[]);
    let mut picture = machine(0x10_0000, 0x8000);
    picture.last_exits = [
        "inb 0x3fd -> 0x60",
        "outb 0x3f8 <- 0x41",
        "outb 0xcf9 <- 0x6",
    ]
    .map(String::from)
    .into();
    let text = VcpuFindings::of(&picture, &read, &Names::none()).to_string();
    assert!(
        text.contains("    2 accesses to the serial port\n    outb 0xcf9 <- 0x6\n"),
        "{text}"
    );
    assert_eq!(text.matches("\n     *\n").count(), 1, "{text}");
}

proptest! {
    #[test]
    fn no_guest_is_too_strange(
        rip in any::<u64>(), rsp in any::<u64>(), rbp in any::<u64>(),
        cr0 in any::<u64>(), cr3 in any::<u64>(), efer in any::<u64>(),
        base in any::<u64>(), l in 0_u8..2, db in 0_u8..2,
        seed in prop::collection::vec(any::<u8>(), 256),
    ) {
        let read = |at: u64, bytes: &mut [u8]| {
            let start = usize::try_from(at % 256).unwrap();
            bytes.iter_mut().zip(seed.iter().cycle().skip(start)).for_each(|(to, from)| *to = *from);
            !at.is_multiple_of(5)
        };
        let mut picture = machine(rip, rsp);
        picture.regs.rbp = rbp;
        (picture.sregs.cr0, picture.sregs.cr3, picture.sregs.efer) = (cr0, cr3, efer);
        (picture.sregs.cs.base, picture.sregs.cs.l, picture.sregs.cs.db) = (base, l, db);
        let lookup = |at: u64| Some((format!("f{at:x}"), at % 9000));
        let names = Names::new(&lookup, 0..u64::MAX, Some(rsp));
        let post_mortem = PostMortem::of(&[picture], vec![], &read, &names);
        let _ = post_mortem.to_string();
        prop_assert!(post_mortem.vcpus[0].backtrace.len() <= 32);
    }
}
