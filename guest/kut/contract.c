/* What test guests expect of the machine, asked for by the words after the program's name. */
#include "guest.h"

/* Multiboot 0.6.96, 3.3. */
struct information {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    uint32_t syms[4], mmap_length, mmap_addr;
};
struct module {
    uint32_t start, end, string, reserved;
};
struct __attribute__((packed)) range {
    uint32_t size;
    uint64_t base, len;
    uint32_t type;
};

#define LOADER_MAGIC 0x2badb002
#define SKIPPED 77

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_RAM_SIZE 0x03
#define FW_CFG_NB_CPUS 0x05
#define FW_CFG_KERNEL_DATA 0x11
#define FW_CFG_CMDLINE_DATA 0x15
#define FW_CFG_FILE_DIRECTORY 0x19

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc

extern const uint8_t trampoline[], trampoline_end[];
extern volatile uint32_t online;
extern uint8_t edata[];

static unsigned failures;

static void report(const char *what, int holds)
{
    put_text(holds ? "PASS: " : "FAIL: ");
    put_text(what);
    put_text("\n");
    failures += !holds;
}

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static int starts(const char *text, const char *with)
{
    while (*with && *text == *with)
        text++, with++;
    return !*with;
}

static unsigned number(const char *text)
{
    unsigned value = 0;

    while (*text >= '0' && *text <= '9')
        value = value * 10 + (unsigned)(*text++ - '0');
    return value;
}

static uint64_t fw_cfg(uint16_t key, unsigned bytes)
{
    uint64_t value = 0;

    out16(FW_CFG_SELECTOR, key);
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)in8(FW_CFG_DATA) << 8 * i;
    return value;
}

/* NR_CPUS of the environment, when there is just one module, as kvm-unit-tests has it; else fw_cfg. */
static unsigned cpus(const struct information *info)
{
    const struct module *module = (const struct module *)(uintptr_t)info->mods_addr;

    if (info->mods_count == 1) {
        const char *text = (const char *)(uintptr_t)module->start;
        const char *end = (const char *)(uintptr_t)module->end;

        for (; text < end; text++)
            if ((text == (const char *)(uintptr_t)module->start || text[-1] == '\n') &&
                starts(text, "NR_CPUS="))
                return number(text + 8);
    }
    return (unsigned)fw_cfg(FW_CFG_NB_CPUS, 2);
}

static void check_information(const struct information *info, uint32_t magic, const char *arguments)
{
    uint64_t ram = 0, last = 0;

    report("EAX has the loader's magic", magic == LOADER_MAGIC);
    report("memory, command line, modules and map are there", (info->flags & 0x4d) == 0x4d);
    /* A BIOS keeps some of it. */
    report("lower memory is up to 640 KiB", info->mem_lower > 600 && info->mem_lower <= 640);
    report("the program's name is its first word", arguments != NULL);
    for (uint32_t at = 0; at < info->mmap_length;) {
        const struct range *range = (const struct range *)(uintptr_t)(info->mmap_addr + at);

        if (range->type == 1) {
            ram += range->len;
            if (range->base < 1ULL << 32)
                last = range->base + range->len;
        }
        at += range->size + 4;
    }
    report("upper memory ends where the map's RAM below 4 GiB does",
           (uint64_t)info->mem_upper * 1024 + 0x100000 == last);
    uint64_t counted = fw_cfg(FW_CFG_RAM_SIZE, 8);

    report("fw_cfg counts the RAM of the map", counted > ram && counted - ram < 0x100000);
    report("the information lies clear of page 0, image and heap",
           (uintptr_t)info >= 0x1000 && (uintptr_t)info < 0xa0000);
}

static void check_fw_cfg(const struct information *info)
{
    const char *line = (const char *)(uintptr_t)info->cmdline;

    out16(FW_CFG_SELECTOR, FW_CFG_CMDLINE_DATA);
    uint8_t first = in8(FW_CFG_DATA);
    int same = first == (uint8_t)*line;

    while (*line++)
        same &= in8(FW_CFG_DATA) == (uint8_t)*line;
    /* QEMU gives it to Linux only. */
    report("fw_cfg has the command line, or none", same || !first);
    report("fw_cfg has the kernel's file", fw_cfg(FW_CFG_KERNEL_DATA, 4) == 0x464c457f);
    report("fw_cfg has a directory of files", fw_cfg(FW_CFG_FILE_DIRECTORY, 4) != 0);
}

static void check_ports(void)
{
    static const uint16_t nobody[] = { 0x1234, 0x5000, 0x9000, 0x4fff, 0x7fff, 0xffff, 0x5658 };
    int ones = 1;

    for (unsigned i = 0; i < sizeof nobody / sizeof *nobody; i++)
        ones &= in8(nobody[i]) == 0xff;
    ones &= in16(0x1234) == 0xffff && in32(0x1234) == 0xffffffff;
    report("ports that nobody answers read as ones", ones);
    out32(CONFIG_ADDRESS, 0x80000000);
    uint32_t id = in32(CONFIG_DATA);
    int bytes = 1;

    for (unsigned i = 0; i < 4; i++) {
        out32(CONFIG_ADDRESS, 0x80000000 | i);
        bytes &= in8(CONFIG_DATA) == (uint8_t)(id >> 8 * i);
    }
    out32(CONFIG_ADDRESS, 0x80000002);
    report("the low bits of CONFIG_ADDRESS select bytes and words",
           bytes && in16(CONFIG_DATA) == id >> 16 && id != 0xffffffff);
}

static void delay(void)
{
    for (unsigned i = 0; i < 1000; i++)
        in8(0x80);
}

/* A CPU of an emulator on a busy host may take seconds. */
#define PATIENCE 10000000000ULL

static uint64_t ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void check_cpus(const struct information *info)
{
    volatile uint32_t *icr = (volatile uint32_t *)0xfee00300;
    unsigned wanted = cpus(info);

    report("NR_CPUS is what fw_cfg says", wanted == fw_cfg(FW_CFG_NB_CPUS, 2));
    for (const uint8_t *at = trampoline; at < trampoline_end; at++)
        *(volatile uint8_t *)(at - trampoline) = *at;
    /* Spurious interrupt vector: the APIC on. INIT and SIPI to all but self, vector 0. */
    *(volatile uint32_t *)0xfee000f0 = 0x1ff;
    *icr = 0xc4500;
    delay();
    *icr = 0xc4600;
    for (uint64_t begun = ticks(); online < wanted && ticks() - begun < PATIENCE;)
        delay();
    put_decimal(online);
    put_text(" CPUs are online\n");
    report("every CPU comes up from page 0", online == wanted);
}

static uint32_t config(unsigned device, unsigned reg)
{
    out32(CONFIG_ADDRESS, 0x80000000 | device << 11 | reg);
    return in32(CONFIG_DATA);
}

static void check_test_device(void)
{
    volatile uint32_t *memory = (volatile uint32_t *)0xff000000;
    uint8_t masks = in8(0x21);

    out32(0xe0, 0x12345678);
    out8(0xe1, 0xff);
    report("testdev: the data ports remember", in32(0xe0) == 0x1234ff78);
    memory[0x3fff] = 0xabcd1234;
    report("testdev: its memory remembers", memory[0x3fff] == 0xabcd1234 && memory[0] == 0);

    volatile uint64_t *page = (volatile uint64_t *)0x900000;
    *page = 0x1122334455667788;
    out32(0xe4, 0x900000);
    report("testdev: a page that is unmapped keeps its bytes", *page == 0x1122334455667788);

    /* Initialised, all masked; then the request register is read (OCW3). */
    out8(0x20, 0x11), out8(0x21, 0x20), out8(0x21, 4), out8(0x21, 1), out8(0x21, 0xff);
    out8(0x20, 0x0a);
    uint8_t before = in8(0x20);
    out8(0x2005, 1);
    uint8_t raised = in8(0x20);
    out8(0x2005, 0);
    report("testdev: a line port raises its interrupt", !(before & 0x20) && (raised & 0x20));
    out8(0x21, masks);
}

static void check_pci_test_device(void)
{
    unsigned device = 0;

    while (device < 32 && config(device, 0) != 0x00051b36)
        device++;
    report("pci-testdev: there is one", device < 32);
    if (device == 32)
        return;
    uint32_t memory = config(device, 0x10), ports = config(device, 0x14);

    report("pci-testdev: its BARs have addresses and decode",
           (memory & ~0xfU) && (ports & 1) && (ports & ~3U) && (config(device, 4) & 3) == 3);
    volatile uint8_t *test = (volatile uint8_t *)(uintptr_t)(memory & ~0xfU);
    uint16_t port = (uint16_t)(ports & ~3U);

    test[0] = 0;
    uint32_t offset = *(volatile uint32_t *)(test + 4);
    uint8_t data = test[8];
    for (unsigned i = 0; i < 10; i++)
        test[offset] = data;
    report("pci-testdev: writes to memory are counted", *(volatile uint32_t *)(test + 12) == 10);
    out8(port, 0);
    offset = in32((uint16_t)(port + 4));
    data = in8((uint16_t)(port + 8));
    for (unsigned i = 0; i < 10; i++)
        out8((uint16_t)(port + offset), data);
    report("pci-testdev: writes to ports are counted", in32((uint16_t)(port + 12)) == 10);
}

static _Noreturn void flood(void)
{
    static char line[1024];

    for (unsigned i = 0; i < sizeof line; i++)
        line[i] = (i + 1) % 64 ? 'x' : '\n';
    for (;;) {
        const char *at = line;
        uint64_t count = sizeof line;

        __asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(COM1) : "memory");
    }
}

/* The words of the command line after the first; NULL when there is none at all. */
static const char *arguments(const struct information *info)
{
    const char *line = (const char *)(uintptr_t)info->cmdline;

    if (!line || !*line)
        return NULL;
    while (*line && *line != ' ')
        line++;
    while (*line == ' ')
        line++;
    return line;
}

int contract(const uint8_t *at, uint32_t magic);

int contract(const uint8_t *at, uint32_t magic)
{
    const struct information *info = (const struct information *)at;
    const char *words = arguments(info);

    if (words && starts(words, "exit "))
        return (int)number(words + 5);
    if (words && equal(words, "skip")) {
        put_text("SKIP: there is nothing to test\n");
        return SKIPPED;
    }
    if (words && equal(words, "off")) {
        out16(0x604, 0x2000);
        return 1;
    }
    if (words && equal(words, "spin"))
        for (;;)
            __asm__ volatile("pause");
    if (words && equal(words, "flood"))
        flood();
    check_information(info, magic, words);
    check_fw_cfg(info);
    check_ports();
    check_cpus(info);
    if (words && equal(words, "devices")) {
        check_test_device();
        check_pci_test_device();
    }
    put_text("SUMMARY: ");
    put_decimal(failures);
    put_text(" failures\n");
    return failures != 0;
}
