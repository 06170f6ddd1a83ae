/*
 * Takes interrupts from every timer of the machine, through both interrupt controllers, and holds their
 * rates against the ACPI PM timer: PIT by PIC and by IOAPIC, RTC, local APIC timer once, periodic and by
 * TSC deadline, and an interrupt the processor sends itself while it halts.
 *
 * One line each, "NAME works" or "NAME FAILS: what came"; the status is the number of failures.
 */
#include "acpi.h"
#include "guest.h"
#include "traps.h"

#define FADT_PM_TMR 76
#define PM_TMR_MASK 0xffffff
#define PM_TMR_HZ 3579545
/* What is waited for at most, in PM timer ticks: a busy host may look away for a second. */
#define PATIENCE (PM_TMR_HZ * 3)

#define PIC_MASTER 0x20
#define PIC_SLAVE 0xa0
#define PIC_EOI 0x20
#define PIT_CHANNEL_0 0x40
#define PIT_CONTROL 0x43
#define PIT_RATE_GENERATOR 0x34
#define PIT_HZ 1193182
#define RTC_INDEX 0x70
#define RTC_DATA 0x71
#define RTC_PIE 0x40

#define LAPIC 0xfee00000
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_TIMER 0x320
#define LAPIC_LINT0 0x350
#define LAPIC_INITIAL 0x380
#define LAPIC_CURRENT 0x390
#define LAPIC_DIVIDE 0x3e0
#define SVR_ENABLE 0x1ff
#define LVT_MASKED 0x10000
#define LVT_EXTINT 0x700
#define TIMER_PERIODIC 0x20000
#define TIMER_DEADLINE 0x40000
#define DIVIDE_BY_1 0xb
#define ICR_SELF 0x40000
#define MSR_TSC_DEADLINE 0x6e0
#define CPUID_DEADLINE (1U << 24)

#define IOAPIC 0xfec00000
#define IOAPIC_DATA 0x10
#define IOAPIC_REDIRECTION 0x10

/* Interrupt vectors follow the exceptions. */
#define VECTOR_PIC 0x20
#define VECTOR_IOAPIC 0x30
#define VECTOR_APIC 0x38

static volatile uint32_t seen;
static volatile uint64_t seen_vector;
static uint16_t pm_timer;
/* When the timer under test was started, by the PM timer: read before, lest a host that takes the
 * processor away in between makes it look early. */
static uint32_t begun;
static int failures;

static uint32_t lapic_read(uint32_t at)
{
    return *(volatile uint32_t *)(uintptr_t)(LAPIC + at);
}

static void lapic_write(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(LAPIC + at) = value;
}

static __attribute__((noinline)) void ioapic_write(uint32_t index, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC = index;
    *(volatile uint32_t *)(IOAPIC + IOAPIC_DATA) = value;
}

static __attribute__((noinline)) void route(unsigned pin, uint32_t low)
{
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin + 1, 0);
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin, low);
}

static uint32_t pm_ticks(uint32_t since)
{
    return (in32(pm_timer) - since) & PM_TMR_MASK;
}

void on_trap(struct trap *trap)
{
    if (trap->vector < VECTOR_PIC) {
        put_text("exception ");
        put_decimal(trap->vector);
        put_text(" at ");
        put_hex(trap->rip);
        put_text("\n");
        guest_exit(63);
    }
    seen++;
    seen_vector = trap->vector;
    if (trap->vector < VECTOR_IOAPIC)
        out8(PIC_MASTER, PIC_EOI);
    else
        lapic_write(LAPIC_EOI, 0);
}

/* Interrupts on until `count` have come or patience ends; how many PM timer ticks that took. */
static __attribute__((noinline)) uint32_t wait_at_most(uint32_t count, uint32_t patience)
{
    uint32_t took;

    do {
        /* Again and again: software KVM was seen to keep an interrupt back until the next STI. */
        __asm__ volatile("sti" : : : "memory");
        took = pm_ticks(begun);
        __asm__ volatile("cli" : : : "memory");
    } while (seen < count && took < patience);
    /* What ended the wait came after that read. */
    return pm_ticks(begun);
}

static void start_clock(void)
{
    begun = in32(pm_timer);
}

static uint32_t wait_for(uint32_t count)
{
    return wait_at_most(count, PATIENCE);
}

static __attribute__((noinline)) void report(const char *what, int works, uint32_t took)
{
    put_text(what);
    if (works) {
        put_text(" works\n");
        return;
    }
    failures++;
    put_text(" FAILS: ");
    put_decimal(seen);
    put_text(" interrupts, the last of vector ");
    put_decimal(seen_vector);
    put_text(", in ");
    put_decimal((uint64_t)took * 1000000 / PM_TMR_HZ);
    put_text(" us\n");
}

/* Whether a wait was as long as it should be. A host may let a guest wait as long as it likes, but no
 * timer is early by more than a tick of its own. */
static int on_time(uint32_t took, uint32_t wanted_us)
{
    uint64_t us = (uint64_t)took * 1000000 / PM_TMR_HZ;

    return us * 10 >= (uint64_t)wanted_us * 8 && took < PATIENCE;
}

/* Takes what is still on its way; by exits, for KVM delivers on its way back. */
static void drain(void)
{
    start_clock();
    wait_at_most(0xffffffff, PM_TMR_HZ / 2000);
    seen = 0;
}

static __attribute__((noinline)) void expect(const char *what, uint32_t count, uint64_t vector, uint32_t us)
{
    uint32_t took = wait_for(count);

    report(what, seen >= count && seen_vector == vector && on_time(took, us), took);
    seen = 0;
}

static __attribute__((noinline)) void pit_start(uint32_t hz)
{
    uint32_t reload = PIT_HZ / hz;

    start_clock();
    out8(PIT_CONTROL, PIT_RATE_GENERATOR);
    out8(PIT_CHANNEL_0, (uint8_t)reload);
    out8(PIT_CHANNEL_0, (uint8_t)(reload >> 8));
}

static void pics_start(uint8_t master_mask)
{
    /* ICW1 to ICW4: edges, vectors, the slave at 2, 8086 mode (8259A data sheet). */
    out8(PIC_MASTER, 0x11);
    out8(PIC_SLAVE, 0x11);
    out8(PIC_MASTER + 1, VECTOR_PIC);
    out8(PIC_SLAVE + 1, VECTOR_PIC + 8);
    out8(PIC_MASTER + 1, 4);
    out8(PIC_SLAVE + 1, 2);
    out8(PIC_MASTER + 1, 1);
    out8(PIC_SLAVE + 1, 1);
    out8(PIC_MASTER + 1, master_mask);
    out8(PIC_SLAVE + 1, 0xff);
}

static __attribute__((noinline)) uint8_t rtc_read(uint8_t at)
{
    out8(RTC_INDEX, at);
    return in8(RTC_DATA);
}

static __attribute__((noinline)) void rtc_write(uint8_t at, uint8_t value)
{
    out8(RTC_INDEX, at);
    out8(RTC_DATA, value);
}

static void check_rtc(void)
{
    uint8_t rate = rtc_read(0x0a), control = rtc_read(0x0b);

    route(8, VECTOR_IOAPIC + 1);
    /* Rate 6 is 1024 Hz (MC146818A, table 5). */
    rtc_write(0x0a, (rate & 0xf0) | 6);
    rtc_read(0x0c);
    start_clock();
    rtc_write(0x0b, control | RTC_PIE);
    uint32_t took = 0;

    /* Each is answered by a read of register C, or no other comes. */
    for (uint32_t count = 1; count <= 4 && took < PATIENCE; count++) {
        wait_for(count);
        rtc_read(0x0c);
        took = pm_ticks(begun);
    }
    rtc_write(0x0b, control);
    rtc_write(0x0a, rate);
    rtc_read(0x0c);
    route(8, LVT_MASKED);
    /* The first may come at once; three periods lie between it and the fourth. */
    report("RTC through the IOAPIC",
           seen >= 4 && seen_vector == VECTOR_IOAPIC + 1 && on_time(took, 2900), took);
    drain();
}

static uint64_t tsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static uint64_t apic_counted(void)
{
    return 0xffffffff - lapic_read(LAPIC_CURRENT);
}

/* How far `counter` goes in 5 ms, or further: its reads enclose those of the PM timer, so a host that takes
 * the processor away between two of them makes a timer late, which is no failure, and never early. */
static uint64_t in_5_ms(uint64_t (*counter)(void))
{
    uint64_t least = UINT64_MAX;

    for (unsigned sample = 0; sample < 5; sample++) {
        uint64_t first = counter();
        uint32_t since = in32(pm_timer), took;

        do
            took = pm_ticks(since);
        while (took < PM_TMR_HZ / 500);
        uint64_t scaled = (counter() - first) * (PM_TMR_HZ / 200) / took;

        if (scaled < least)
            least = scaled;
    }
    return least;
}

static uint32_t lapic_rate(void)
{
    lapic_write(LAPIC_DIVIDE, DIVIDE_BY_1);
    lapic_write(LAPIC_TIMER, LVT_MASKED);
    lapic_write(LAPIC_INITIAL, 0xffffffff);
    uint64_t rate = in_5_ms(apic_counted);

    lapic_write(LAPIC_INITIAL, 0);
    return (uint32_t)rate;
}

static void check_deadline(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (!(ecx & CPUID_DEADLINE)) {
        put_text("APIC timer by TSC deadline: the processor has none\n");
        return;
    }
    uint64_t wait = in_5_ms(tsc);

    lapic_write(LAPIC_TIMER, TIMER_DEADLINE | (VECTOR_APIC + 2));
    start_clock();
    uint64_t deadline = tsc() + wait;

    __asm__ volatile("wrmsr" : : "c"(MSR_TSC_DEADLINE), "a"((uint32_t)deadline),
                     "d"((uint32_t)(deadline >> 32)));
    expect("APIC timer by TSC deadline", 1, VECTOR_APIC + 2, 5000);
}

int guest_main(const uint8_t *boot_params)
{
    const uint8_t *fadt = acpi_table(boot_params, "FACP");

    if (!fadt) {
        put_text("there is no FADT\n");
        return 63;
    }
    pm_timer = (uint16_t)load32(fadt + FADT_PM_TMR);
    traps_install();
    lapic_write(LAPIC_SVR, SVR_ENABLE);

    /* The PIC's output comes in at LINT0. */
    lapic_write(LAPIC_LINT0, LVT_EXTINT);
    pics_start(0xfe);
    pit_start(1000);
    expect("PIT through the PIC", 10, VECTOR_PIC, 9000);
    out8(PIC_MASTER + 1, 0xff);
    drain();
    lapic_write(LAPIC_LINT0, LVT_MASKED);

    /* Interrupt 0 is pin 2 by the MADT's override. */
    route(2, VECTOR_IOAPIC);
    pit_start(1000);
    expect("PIT through the IOAPIC", 10, VECTOR_IOAPIC, 9000);
    route(2, LVT_MASKED);
    drain();
    check_rtc();

    uint32_t rate = lapic_rate();

    lapic_write(LAPIC_TIMER, VECTOR_APIC);
    start_clock();
    lapic_write(LAPIC_INITIAL, rate);
    expect("APIC timer once", 1, VECTOR_APIC, 5000);
    /* Twice as long as it was to take. */
    start_clock();
    uint32_t took = wait_at_most(1, PM_TMR_HZ / 100);

    report("APIC timer is silent after that", seen == 0, took);
    seen = 0;
    lapic_write(LAPIC_TIMER, TIMER_PERIODIC | (VECTOR_APIC + 1));
    start_clock();
    lapic_write(LAPIC_INITIAL, rate / 5);
    expect("APIC timer periodic", 10, VECTOR_APIC + 1, 10000);
    lapic_write(LAPIC_TIMER, LVT_MASKED);
    lapic_write(LAPIC_INITIAL, 0);
    drain();
    check_deadline();
    lapic_write(LAPIC_TIMER, LVT_MASKED);
    drain();

    /* STI holds interrupts back for one instruction: the halt is entered, and left. */
    lapic_write(LAPIC_ICR, ICR_SELF | (VECTOR_APIC + 3));
    __asm__ volatile("sti; hlt; cli" : : : "memory");
    report("halt until an interrupt", seen == 1 && seen_vector == VECTOR_APIC + 3, 0);
    put_decimal((uint64_t)failures);
    put_text(" failures\n");
    return failures;
}
