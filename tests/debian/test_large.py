"""Large programs do under polyvm what they do under qemu-user: OpenSSL with the processor's own instructions, ffmpeg with x264, numpy,
Node.js; static programs of Go and Rust.

Debian's are tested where the guest's sysroot, $POLYVM_SYSROOT_AARCH64 or $POLYVM_SYSROOT_RISCV64, has them; `scripts/sysroot` makes one
with `openssl ffmpeg nodejs python3-numpy`.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests import GUESTS, Guest

OPENSSL = ["aes-128-gcm", "sha256"]
FFMPEG = [
    "-v",
    "error",
    "-f",
    "lavfi",
    "-i",
    "testsrc=s=160x120:r=10:d=0.5",
    "-c:v",
    "libx264",
    "-threads",
    "1",
    "-f",
    "h264",
    "-",
]
NUMPY = """
import numpy as n
a = n.arange(1, 65, dtype=float).reshape(8, 8) % 7 + n.eye(8)
print(n.__version__, n.round(a @ a.T, 9).tolist(), round(float(n.linalg.det(a)), 3), n.round(n.linalg.solve(a, a[0]), 9).tolist())
print(n.sort(n.random.default_rng(3).integers(0, 1000, 20)).tolist(), n.round(n.abs(n.fft.fft(a[0])), 9).tolist())
print(n.float16(0.1) + n.float16(0.2), n.sqrt(n.arange(5, dtype=n.float32)).tolist(), n.bitwise_xor.reduce(n.arange(99)))
"""
NODE = """
const crypto = require('crypto');
console.log(process.arch, [3, 1, 2].sort(), 0.1 + 0.2, 2n ** 100n, JSON.stringify({a: [1, 'b', null]}));
console.log(crypto.createHash('sha256').update('x').digest('hex'), 'abc'.replace(/b/g, m => m.toUpperCase()));
let s = 0; for (let i = 0; i < 300000; i++) s = (s * 31 + i) | 0; console.log(s);
setTimeout(() => console.log('later'), 5); Promise.resolve(7).then(console.log);
"""
RUST = """
use std::collections::HashMap;
fn main() {
    let threads: Vec<_> = (0..4u64).map(|i| std::thread::spawn(move || (0..1000 * i).map(|x| x * x % 7).sum::<u64>())).collect();
    let sums: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let mut counts: HashMap<char, u32> = HashMap::new();
    for c in "hello".chars() { *counts.entry(c).or_insert(0) += 1; }
    println!("{:?} {} {:.12} {:?}", sums, counts[&'l'], 2f64.sqrt().sin(), "9x".parse::<i32>().is_err());
    println!("{}", std::panic::catch_unwind(|| { let v: Vec<i32> = vec![]; v[sums.len()] }).is_err());
}
"""
GO = """
package main

import ("crypto/sha256"; "fmt"; "math"; "runtime"; "strings"; "sync")

func main() {
	var wait sync.WaitGroup
	sums := make([]int, 4)
	for i := range sums {
		wait.Add(1)
		go func(i int) { for j := 0; j < 1000*i; j++ { sums[i] += j * j % 7 }; wait.Done() }(i)
	}
	wait.Wait()
	defer func() { fmt.Println(recover() != nil) }()
	fmt.Printf("%v %x %.12f %s %s\\n", sums, sha256.Sum256([]byte("x")), math.Sin(math.Sqrt2), strings.ToUpper("go"), runtime.GOARCH)
	fmt.Println(sums[len(sums)*2-len(strings.Repeat("x", 4))])
}
"""
RUST_TARGETS = {"riscv64": "riscv64gc-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
GO_NAMES = {"riscv64": "riscv64", "aarch64": "arm64"}

both = pytest.mark.parametrize("guest", GUESTS, ids=str)


def _sysroot(guest: Guest, *files: str) -> Path:
    """Where the guest's packages are; skips where they or one of the files are not."""
    name = f"POLYVM_SYSROOT_{guest.name.upper()}"
    given = os.environ.get(name)
    if not given:
        pytest.skip(f"needs {name}, a sysroot with {', '.join(files)}")
    root = Path(given)
    for file in files:
        if not any(root.glob(file)):
            pytest.skip(f"{name} has no {file}")
    return root


def _polyvm(root: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "polyvm", "run", "-L", str(root), str(root / program), *arguments]
    return subprocess.run(command, capture_output=True, timeout=280, check=False)


def _compare(guest: Guest, root: Path, program: str, *arguments: str) -> bytes:
    """What the program prints under polyvm, which is what it prints under qemu."""
    expected = subprocess.run(
        [*guest.qemu, "-L", root, root / program, *arguments], capture_output=True, timeout=280, check=False
    )
    found = _polyvm(root, program, *arguments)
    assert found.stdout == expected.stdout, found.stderr
    assert found.returncode == expected.returncode == 0
    return found.stdout


@both
@pytest.mark.parametrize("name", OPENSSL)
def test_openssl_says_how_quick_it_is(guest: Guest, name: str) -> None:
    root = _sysroot(guest, "usr/bin/openssl")
    found = _polyvm(root, "usr/bin/openssl", "speed", "-seconds", "1", "-bytes", "1024", "-evp", name)
    assert found.returncode == 0, found.stderr
    assert re.search(rf"(?mi)^{name}\s+[1-9][\d.]+k$", found.stdout.decode())


@both
def test_openssl_computes_what_it_should(guest: Guest, tmp_path: Path) -> None:
    root, data = _sysroot(guest, "usr/bin/openssl"), tmp_path / "data"
    data.write_bytes(bytes(i * i * 7 & 255 for i in range(50_000)))
    for name in "sha1 sha256 sha512 sha3-256 sm3 md5 blake2b512".split():
        _compare(guest, root, "usr/bin/openssl", "dgst", f"-{name}", str(data))
    for name in "aes-128-ctr aes-256-cbc chacha20 sm4-ctr camellia-128-cbc".split():
        key = ["-K", "0123456789abcdef" * 4, "-iv", "a5" * 16]
        _compare(guest, root, "usr/bin/openssl", "enc", f"-{name}", *key, "-in", str(data))


@both
def test_xz_packs_what_it_should(guest: Guest, tmp_path: Path) -> None:
    """In code that is all made well, which has met a defect of LLVM's in liblzma."""
    root, data = _sysroot(guest, "usr/bin/xz"), tmp_path / "data"
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(3000)]
    data.write_text(" ".join(rng.choices(words, range(3000, 0, -1), k=400_000)))
    command = ["-L", str(root), str(root / "usr/bin/xz"), "-kc", "-6", "-T1", str(data)]
    expected = subprocess.run([*guest.qemu, *command], capture_output=True, timeout=280, check=True).stdout
    polyvm = [sys.executable, "-m", "polyvm", "run", "--jit=full"]
    for _ in range(2):
        found = subprocess.run([*polyvm, *command], capture_output=True, timeout=280, check=True)
        assert found.stdout == expected


@both
def test_ffmpeg_encodes_a_clip(guest: Guest) -> None:
    root = _sysroot(guest, "usr/bin/ffmpeg", "usr/lib/*/libx264.so.*")
    assert _compare(guest, root, "usr/bin/ffmpeg", *FFMPEG).startswith(b"\0\0\0\1")


@both
def test_numpy_computes(guest: Guest) -> None:
    root = _sysroot(guest, "usr/bin/python3", "usr/lib/python3/dist-packages/numpy")
    assert _compare(guest, root, "usr/bin/python3", "-c", NUMPY).count(b"\n") == 3


@both
def test_node_runs_a_script(guest: Guest) -> None:
    root = _sysroot(guest, "usr/bin/node")
    assert _compare(guest, root, "usr/bin/node", "--version").startswith(b"v")
    assert _compare(guest, root, "usr/bin/node", "-e", NODE).endswith(b"later\n")


def _static(guest: Guest, program: Path) -> None:
    expected = subprocess.run([*guest.qemu, program], capture_output=True, timeout=120, check=False)
    found = subprocess.run([sys.executable, "-m", "polyvm", "run", program], capture_output=True, timeout=120, check=False)
    assert (found.stdout, found.returncode) == (expected.stdout, expected.returncode), found.stderr
    assert found.stdout.count(b"\n") == 2


@both
def test_a_rust_program(guest: Guest, tmp_path: Path) -> None:
    target, rustc = RUST_TARGETS[guest.name], shutil.which("rustc")
    if rustc is None:
        pytest.skip("needs rustc")
    root = Path(subprocess.run([rustc, "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip())
    if not (root / "lib" / "rustlib" / target / "lib").exists():
        pytest.skip(f"rustc has no standard library for {target}")
    (tmp_path / "main.rs").write_text(RUST)
    command = [rustc, "-O", "--target", target, "-C", f"linker={guest.cc}", "-C", "target-feature=+crt-static"]
    subprocess.run([*command, "-o", tmp_path / "main", tmp_path / "main.rs"], check=True)
    _static(guest, tmp_path / "main")


@both
def test_a_go_program(guest: Guest, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs go")
    (tmp_path / "main.go").write_text(GO)
    environment = {
        **os.environ,
        "GOARCH": GO_NAMES[guest.name],
        "GOOS": "linux",
        "CGO_ENABLED": "0",
        "GOCACHE": str(tmp_path / "cache"),
    }
    subprocess.run([go, "build", "-o", tmp_path / "main", tmp_path / "main.go"], check=True, env=environment)
    _static(guest, tmp_path / "main")
