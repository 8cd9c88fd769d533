/* A small kernel for x86-64: descriptor tables, local APIC timer, a second processor, ring 3, a memory-mapped device.
 *
 * Entered in 64-bit mode at its first byte with paging on and the first 4 GiB mapped to themselves. Built with
 *   gcc -O1 -ffreestanding -fno-pic -fno-stack-protector -mno-red-zone -mgeneral-regs-only -nostdlib -static
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define DEVICE ((volatile u32 *)0xd0000000ul)
#define APIC(offset) (*(volatile u32 *)(0xfee00000ul + (offset)))

struct result {
	u64 ticks;      /* timer interrupts */
	u64 user_ticks; /* those that came in ring 3 */
	u64 user_cs;
	u64 fault;      /* vector + 1 of an exception */
	u64 fault_rip;
	u64 magic;      /* what the device's first register said */
	u64 started;    /* written by the second processor */
	u64 random;     /* from a virtio entropy device, if there is one */
};
static volatile struct result *const result = (void *)0x5000;

struct frame {
	u64 rip, cs, rflags, rsp, ss;
};

struct gate {
	u16 low, selector;
	u8 stack, type;
	u16 middle;
	u32 high, zero;
} __attribute__((packed));

struct pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

static u64 gdt[8] = {
	0,
	0x00209a0000000000, /* 0x08: ring 0 code */
	0x0000920000000000, /* 0x10: ring 0 data */
	0x0000f20000000000, /* 0x18: ring 3 data */
	0x0020fa0000000000, /* 0x20: ring 3 code */
};
static struct gate idt[256];
static u8 tss[104];
static u8 kernel_stack[4096] __attribute__((aligned(16)));
static u8 user_stack[4096] __attribute__((aligned(16)));

__attribute__((naked, section(".first"))) void first(void)
{
	__asm__("lea 0x90000, %rsp; call kernel");
}

__attribute__((interrupt)) static void timer(struct frame *frame)
{
	result->ticks++;
	if ((frame->cs & 3) == 3) {
		result->user_ticks++;
		result->user_cs = frame->cs;
	}
	APIC(0xb0) = 0;
}

#define FAULT(n)                                                                             \
	__attribute__((interrupt)) static void fault##n(struct frame *frame, u64 code)       \
	{                                                                                    \
		result->fault = n + 1;                                                       \
		result->fault_rip = frame->rip;                                              \
		for (;;)                                                                     \
			DEVICE[0x7c / 4] = code;                                             \
	}
FAULT(8) FAULT(13) FAULT(14)

static void set_gate(int vector, void *handler)
{
	u64 at = (u64)handler;
	idt[vector] = (struct gate){at, 0x08, 0, 0x8e, at >> 16, at >> 32, 0};
}

static struct {
	struct {
		u64 address;
		u32 length;
		u16 flags, next;
	} table[4];
	struct {
		u16 flags, index, ring[4];
	} available;
	struct {
		volatile u16 flags, index;
		u32 ring[8];
	} used __attribute__((aligned(4)));
} queue __attribute__((aligned(16)));

/* Eight random bytes from a virtio-mmio entropy device (Virtio 1.2, 3.1.1, 4.2.2, 5.4), without interrupts. */
static void entropy(void)
{
	DEVICE[0x70 / 4] = 0;
	DEVICE[0x70 / 4] = 1;
	DEVICE[0x70 / 4] = 3;
	DEVICE[0x24 / 4] = 1; /* VERSION_1 is bit 32 */
	DEVICE[0x20 / 4] = 1;
	DEVICE[0x70 / 4] = 11;
	DEVICE[0x30 / 4] = 0;
	DEVICE[0x38 / 4] = 4;
	DEVICE[0x80 / 4] = (u64)queue.table;
	DEVICE[0x90 / 4] = (u64)&queue.available;
	DEVICE[0xa0 / 4] = (u64)&queue.used;
	DEVICE[0x44 / 4] = 1;
	DEVICE[0x70 / 4] = 15;
	queue.table[0].address = (u64)&result->random;
	queue.table[0].length = 8;
	queue.table[0].flags = 2;
	queue.available.index = 1;
	__asm__ volatile("mfence" : : : "memory");
	DEVICE[0x50 / 4] = 0;
	while (queue.used.index != 1)
		__asm__ volatile("pause");
}

static void user(void)
{
	DEVICE[0x50 / 4] = 0x33;
	while (result->user_ticks < 3)
		;
	for (;;)
		DEVICE[0x54 / 4] = 0x600d;
}

void kernel(void)
{
	u64 base = (u64)tss;
	gdt[5] = 0x0000890000000067 | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
	gdt[6] = base >> 32;
	*(u64 *)(tss + 4) = (u64)kernel_stack + sizeof kernel_stack;
	struct pointer pointer = {sizeof gdt - 1, (u64)gdt};
	__asm__ volatile("lgdt %0; mov %1, %%ds; mov %1, %%es; mov %1, %%ss; push $0x08; lea 1f(%%rip), %%rax; push %%rax; lretq; 1:"
			 : : "m"(pointer), "r"(0x10) : "rax", "memory");
	__asm__ volatile("ltr %w0" : : "r"(0x28));
	set_gate(8, fault8);
	set_gate(13, fault13);
	set_gate(14, fault14);
	set_gate(0x40, timer);
	pointer = (struct pointer){sizeof idt - 1, (u64)idt};
	__asm__ volatile("lidt %0" : : "m"(pointer));

	APIC(0xf0) = 0x1ff;
	APIC(0x3e0) = 0xb;
	APIC(0x320) = 0x40 | 0x20000;
	APIC(0x380) = 1000000;
	__asm__ volatile("sti");
	while (result->ticks < 5)
		__asm__ volatile("hlt");

	result->magic = DEVICE[0];
	if (DEVICE[1] == 2)
		entropy();

	/* INIT, then the start-up IPI: the second processor begins at 0x8000. */
	APIC(0x310) = 1 << 24;
	APIC(0x300) = 0x4500;
	for (u64 until = result->ticks + 2; result->ticks < until;)
		__asm__ volatile("hlt");
	APIC(0x310) = 1 << 24;
	APIC(0x300) = 0x4608;
	while (!result->started)
		__asm__ volatile("pause");

	__asm__ volatile("push $0x1b; push %0; push $0x202; push $0x23; push %1; iretq"
			 : : "r"(user_stack + sizeof user_stack), "r"(user) : "memory");
	__builtin_unreachable();
}
