/* KVM exits in a loop, for bench/accel.py: port writes, then MMIO writes. Prints name, wall and CPU seconds per exit. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static double now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static volatile unsigned long sum;

static void loop(const char *name, const unsigned char *code, int size, long count)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	char *memory = mmap(0, 0xa0000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {0, 0, 0, 0xa0000, (unsigned long)memory};
	memcpy(memory + 0x1000, code, size);
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfeffd000ul);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	struct kvm_sregs s;
	ioctl(cpu, KVM_GET_SREGS, &s);
	s.cs.base = s.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &s);
	struct kvm_regs r = {.rip = 0x1000, .rflags = 2};
	ioctl(cpu, KVM_SET_REGS, &r);
	run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	for (int i = 0; i < 100; i++)
		ioctl(cpu, KVM_RUN, 0);
	double wall = now(CLOCK_MONOTONIC), used = now(CLOCK_THREAD_CPUTIME_ID);
	for (long i = 0; i < count; i++) {
		ioctl(cpu, KVM_RUN, 0);
		if (run->exit_reason == KVM_EXIT_IO)
			sum += *((unsigned char *)run + run->io.data_offset);
		else if (run->exit_reason == KVM_EXIT_MMIO)
			sum += run->mmio.data[0];
		else
			exit(1);
	}
	printf("%s %.9f %.9f\n", name, (now(CLOCK_MONOTONIC) - wall) / count, (now(CLOCK_THREAD_CPUTIME_ID) - used) / count);
}

int main(int argc, char **argv)
{
	static const unsigned char port[] = {0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd};
	static const unsigned char mmio[] = {0xb8, 0x00, 0xd0, 0x8e, 0xc0, 0x26, 0xa2, 0x10, 0x00, 0xeb, 0xfa};
	long count = argc > 1 ? atol(argv[1]) : 100000;
	loop("port", port, sizeof port, count);
	loop("MMIO", mmio, sizeof mmio, count);
	return 0;
}
