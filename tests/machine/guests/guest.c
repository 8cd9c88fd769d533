/* A freestanding 64-bit guest for the tests: serial port with interrupts, local APIC timer, virtio-mmio devices as its command line
 * names them, a second processor. It prints what it finds, then obeys letters from COM1:
 *   f random accesses to devices   o power off (with ACPI)   r reset by the keyboard controller   t triple fault   x end with code 42   e echo   p an x87 instruction   s spin   w write to disk */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u32 rd(u64 a) { return *(volatile u32 *)a; }
static inline void wr(u64 a, u32 v) { *(volatile u32 *)a = v; }

static void put(char c) { outb(0x3f8, (u8)c); }
static void print(const char *s) { while (*s) put(*s++); }
static void hex(u64 v) {
    int i = 60;
    while (i > 0 && !(v >> i)) i -= 4;
    for (; i >= 0; i -= 4) put("0123456789abcdef"[v >> i & 15]);
}
static void line(const char *what, u64 v) { print(what); hex(v); put('\n'); }

struct frame { u64 rip, cs, flags, rsp, ss; };
static volatile u32 ticks, uart_interrupts, virtio_interrupts[64], typed_count, taken;
static volatile u8 typed[256];
static u64 devices[16]; static u32 irqs[16], ids[16], count;
#define LAPIC 0xfee00000ul
#define IOAPIC 0xfec00000ul

__attribute__((interrupt)) static void on_timer(struct frame *f) { (void)f; ticks++; wr(LAPIC + 0xb0, 0); }
__attribute__((interrupt)) static void on_uart(struct frame *f) {
    (void)f;
    uart_interrupts++;
    while (inb(0x3fd) & 1) typed[typed_count++ & 255] = inb(0x3f8);
    wr(LAPIC + 0xb0, 0);
}
__attribute__((interrupt)) static void on_virtio(struct frame *f) {
    (void)f;
    for (u32 i = 0; i < count; i++) {
        u32 status = rd(devices[i] + 0x60);
        if (status) { wr(devices[i] + 0x64, status); virtio_interrupts[i]++; }
    }
    wr(LAPIC + 0xb0, 0);
}
__attribute__((interrupt)) static void on_other(struct frame *f) { (void)f; wr(LAPIC + 0xb0, 0); }

static struct { u16 low, selector; u8 ist, type; u16 mid; u32 high, zero; } idt[256];
extern u64 gdt[];
static void gate(int vector, void *handler) {
    u64 a = (u64)handler;
    u16 cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    idt[vector].low = (u16)a; idt[vector].mid = (u16)(a >> 16); idt[vector].high = (u32)(a >> 32);
    idt[vector].selector = cs; idt[vector].type = 0x8e; idt[vector].ist = 0; idt[vector].zero = 0;
}
static void load_idt(u16 limit, void *base) {
    struct __attribute__((packed)) { u16 limit; u64 base; } pointer = {limit, (u64)base};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}
static void route(u32 irq, u32 vector) {
    wr(IOAPIC, 0x10 + 2 * irq + 1); wr(IOAPIC + 0x10, 0);
    wr(IOAPIC, 0x10 + 2 * irq); wr(IOAPIC + 0x10, vector);
}

/* --- virtio: one queue in use at a time, polled only after an interrupt */
struct desc { u64 address; u32 length; u16 flags, next; };
struct queue {
    struct desc desc[16];
    struct { u16 flags, index, ring[16], event; } avail;
    struct { u16 flags; volatile u16 index; struct { u32 id, length; } ring[16]; u16 event; } used __attribute__((aligned(4096)));
} __attribute__((aligned(4096)));
static struct queue queues[16][2] __attribute__((aligned(4096)));
static u8 buffer[8192] __attribute__((aligned(4096)));

static void setup(u32 d, u32 nqueues) {
    u64 m = devices[d];
    wr(m + 0x70, 0); wr(m + 0x70, 3);
    wr(m + 0x24, 0); wr(m + 0x20, 0);
    wr(m + 0x24, 1); wr(m + 0x20, 1);
    wr(m + 0x70, 11);
    for (u32 i = 0; i < nqueues; i++) {
        struct queue *q = &queues[d][i];
        wr(m + 0x30, i); wr(m + 0x38, 16);
        wr(m + 0x80, (u32)(u64)q->desc); wr(m + 0x84, 0);
        wr(m + 0x90, (u32)(u64)&q->avail); wr(m + 0x94, 0);
        wr(m + 0xa0, (u32)(u64)&q->used); wr(m + 0xa4, 0);
        wr(m + 0x44, 1);
    }
    wr(m + 0x70, 15);
}
static u32 submit(u32 d, u32 qi, u32 parts) {
    struct queue *q = &queues[d][qi];
    for (u32 i = 0; i + 1 < parts; i++) { q->desc[i].flags |= 1; q->desc[i].next = (u16)(i + 1); }
    u16 before = q->used.index;
    q->avail.ring[q->avail.index & 15] = 0;
    __asm__ volatile("" ::: "memory");
    q->avail.index++;
    __asm__ volatile("mfence" ::: "memory");
    wr(devices[d] + 0x50, qi);
    for (;;) {
        __asm__ volatile("cli");
        if (q->used.index != before) break;
        __asm__ volatile("sti; hlt");
    }
    __asm__ volatile("sti");
    return q->used.ring[before & 15].length;
}
static void part(u32 d, u32 qi, u32 i, void *address, u32 length, u16 flags) {
    struct desc *e = &queues[d][qi].desc[i];
    e->address = (u64)address; e->length = length; e->flags = flags;
}
static struct { u32 type, zero; u64 sector; } header;
static volatile u8 status;
static u8 block(u32 d, u32 type, u64 sector, void *data, u32 size) {
    u32 n = 0;
    header.type = type; header.sector = sector; status = 0xff;
    part(d, 0, n++, &header, 16, 0);
    if (size) part(d, 0, n++, data, size, type == 0 ? 2 : 0);
    part(d, 0, n++, (void *)&status, 1, 2);
    submit(d, 0, n);
    return status;
}

static u64 number(const char **s) {
    u64 v = 0, base = 10;
    if ((*s)[0] == '0' && (*s)[1] == 'x') { base = 16; *s += 2; }
    for (;; ++*s) {
        char c = **s;
        u64 digit = c >= '0' && c <= '9' ? (u64)(c - '0') : c >= 'a' && c <= 'f' ? (u64)(c - 'a' + 10) : 99;
        if (digit >= base) return v;
        v = v * base + digit;
    }
}
static int starts(const char *s, const char *with) { while (*with) if (*s++ != *with++) return 0; return 1; }

static volatile u32 ap_alive, ap_sum;
void ap_main(void) {
    ap_alive = 1 + (rd(LAPIC + 0x20) >> 24);
    for (u32 i = 0; i < 1000; i++) ap_sum += i;
    ap_alive |= 0x100;
}
extern u8 ap_start[], ap_end[];
extern u32 boot_cr3;
static void wait_ticks(u32 n) { u32 end = ticks + n; while ((int)(ticks - end) < 0) __asm__ volatile("sti; hlt"); }
static void second_processor(void) {
    u64 cr3;
    __asm__("mov %%cr3, %0" : "=r"(cr3));
    boot_cr3 = (u32)cr3;
    for (u8 *s = ap_start, *d = (u8 *)0x8000; s < ap_end; s++, d++) *d = *s;
    wr(LAPIC + 0x310, 1 << 24); wr(LAPIC + 0x300, 0x4500);
    wait_ticks(2);
    wr(LAPIC + 0x310, 1 << 24); wr(LAPIC + 0x300, 0x4608);
    for (u32 i = 0; i < 400 && !(ap_alive & 0x100); i++) wait_ticks(1);
    line("second processor ", ap_alive & 0xff);
    line("it summed ", ap_sum);
}

static void test_device(u32 d) {
    u32 id = rd(devices[d] + 8);
    ids[d] = id;
    if (id == 4) {
        setup(d, 1);
        part(d, 0, 0, buffer, 32, 2);
        u32 got = submit(d, 0, 1), nonzero = 0;
        for (u32 i = 0; i < 32; i++) nonzero |= buffer[i];
        line("rng bytes ", got);
        print(nonzero ? "rng random\n" : "rng zero\n");
    } else if (id == 2) {
        setup(d, 1);
        line("disk sectors ", rd(devices[d] + 0x100));
        line("disk read ", block(d, 0, 0, buffer, 1024));
        print("disk says ");
        for (u32 i = 0; buffer[i] >= ' ' && i < 100; i++) put((char)buffer[i]);
        put('\n');
    } else if (id == 3) {
        setup(d, 2);
        const char *text = "hello on the virtio console\n";
        u32 n = 0;
        while (text[n]) { buffer[n] = (u8)text[n]; n++; }
        part(d, 1, 0, buffer, n, 0);
        submit(d, 1, 1);
        print("console done\n");
    }
    line("virtio interrupts ", virtio_interrupts[d]);
}

static void find_devices(const char *s) {
    for (; *s; s++) {
        if (!starts(s, "virtio_mmio.device=")) continue;
        s += 19;
        number(&s); s++;
        devices[count] = number(&s); s++;
        irqs[count] = (u32)number(&s);
        count++;
    }
}

static void fuzz(u64 n) {
    u64 x = 88172645463325252ul, sum = 0;
    while (n--) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        u64 a = devices[(x >> 8) % count] + ((x >> 16) & 0x3ff), value = x >> 20;
        if (x & 1) a &= ~3ul;
        switch (x >> 1 & 7) {
        case 0: sum += *(volatile u8 *)a; break;
        case 1: sum += *(volatile u32 *)a; break;
        case 2: *(volatile u8 *)a = (u8)value; break;
        case 3: *(volatile u64 *)a = value; break;
        case 4: outb((u16)(0x70 + (value & 1)), (u8)(value >> 1)); break;
        case 5: sum += inb(0x71); break;
        default: *(volatile u32 *)a = (u32)(x & 16 ? value & 15 : value);
        }
    }
    print("fuzzed\n");
}

void guest_main(u64 info, u64 pvh) {
    const char *cmdline;
    if (pvh) {
        print("entry pvh\n");
        line("magic ", rd(info));
        line("version ", rd(info + 4));
        cmdline = (const char *)*(u64 *)(info + 24);
        if (rd(info + 12)) { u64 *module = *(u64 **)(info + 16); line("initrd ", module[1]); print((const char *)module[0]); put('\n'); }
        u32 entries = rd(info + 48); u64 map = *(u64 *)(info + 40), total = 0;
        for (u32 i = 0; i < entries; i++) if (rd(map + 24 * i + 16) == 1) total += *(u64 *)(map + 24 * i + 8);
        line("memory ", total);
    } else {
        print("entry linux\n");
        cmdline = (const char *)(u64)rd(info + 0x228);
        if (rd(info + 0x21c)) { line("initrd ", rd(info + 0x21c)); print((const char *)(u64)rd(info + 0x218)); put('\n'); }
        u64 total = 0;
        for (u32 i = 0; i < *(u8 *)(info + 0x1e8); i++) if (rd(info + 0x2d0 + 20 * i + 16) == 1) total += *(u64 *)(info + 0x2d0 + 20 * i + 8);
        line("memory ", total);
        u64 data = *(u64 *)(info + 0x250);
        if (data) line("setup data ", rd(data + 8));
    }
    u64 rsdp = *(u64 *)(info + (pvh ? 32 : 0x70));
    if (rsdp) line("rsdp ", *(u64 *)rsdp == 0x2052545020445352ul ? rsdp : 0);
    print("cmdline "); print(cmdline); put('\n');

    for (int i = 0; i < 256; i++) gate(i, on_other);
    gate(0x30, on_timer); gate(0x31, on_uart); gate(0x32, on_virtio);
    load_idt(sizeof idt - 1, idt);
    outb(0x21, 0xff); outb(0xa1, 0xff);
    wr(LAPIC + 0xf0, 0x1ff);
    wr(LAPIC + 0x3e0, 3); wr(LAPIC + 0x320, 0x20030); wr(LAPIC + 0x380, 600000);
    route(4, 0x31);
    outb(0x3fa, 0x07); outb(0x3fb, 3); outb(0x3fc, 0x0b); outb(0x3f9, 1);
    __asm__ volatile("sti");
    wait_ticks(3);
    print("timer ticks\n");
    find_devices(cmdline);
    for (u32 i = 0; i < count; i++) route(irqs[i], 0x32);
    for (u32 i = 0; i < count; i++) test_device(i);
    for (const char *s = cmdline; *s; s++) if (starts(s, "smp")) { second_processor(); break; }
    print("ready\n");
    for (;;) {
        __asm__ volatile("cli");
        if (taken == typed_count) { __asm__ volatile("sti; hlt"); continue; }
        __asm__ volatile("sti");
        u8 c = typed[taken++ & 255];
        if (c == 'r') { print("resetting\n"); outb(0x64, 0xfe); }
        else if (c == 't') { load_idt(0, 0); __asm__ volatile("ud2"); }
        else if (c == 'f') fuzz(20000);
        else if (c == 'o') outb(0x600, 0x34);
        else if (c == 'x') outl(0x501, 42);
        else if (c == 'p') __asm__ volatile("fninit; fld1; fld1; faddp");
        else if (c == 's') { print("spinning\n"); __asm__ volatile("cli"); for (;;) ; }
        else if (c == 'w') {
            for (u32 i = 0; i < count; i++) if (ids[i] == 2) {
                for (u32 k = 0; k < 512; k++) buffer[k] = (u8)('a' + k % 26);
                line("disk write ", block(i, 1, 3, buffer, 512));
                line("disk flush ", block(i, 4, 0, 0, 0));
            }
        } else { print("you typed "); put((char)c); line(" by interrupt ", uart_interrupts > 0); }
    }
}
