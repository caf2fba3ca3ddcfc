"""An emulated AMD host: what it is made of, how it is booted, and how a plan is run in it."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = ("5.10", "6.1", "6.12", "6.18", "newest")
MEMORY = 3072  # MiB of a host
TRIES = 4
# Seconds without a word of a host after which its emulation counts as ended: until the plan's first
# word, and from then on, when the host's init says LIVES every 10 seconds. More where the machine is
# very slow.
PATIENCE = int(os.environ.get("EMULATED_HOST_PATIENCE", "120"))
SILENCE = int(os.environ.get("EMULATED_HOST_SILENCE", "300"))
LIVES = "HOST-LIVES"


class CannotBeDone(Exception):
    """Something that this machine lacks; the text is the reason."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def script(*command):
    """Runs one of the scripts; its status 77 and its SKIPPED line become CannotBeDone."""
    done = subprocess.run(["bash", HERE / command[0], *command[1:]], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    reason = done.stdout.strip().splitlines()
    if done.returncode == 77:
        raise CannotBeDone(reason[-1].removeprefix("SKIPPED: "))
    if done.returncode:
        sys.exit("\n".join(reason[-25:]) or f"{command[0]}: status {done.returncode}")


class Host:
    def __init__(self, kernel="6.12", counters=0, mediated=False, stock=False):
        self.kernel, self.counters, self.mediated, self.stock = kernel, counters, mediated, stock

    def __str__(self):
        name = f"Linux {self.kernel}" if self.kernel != "newest" else "the newest Linux of sid"
        if self.stock:
            return name + ", Debian's own QEMU"
        return (name + (f", PerfMonV2 with {self.counters} counters" if self.counters else "")
                + (", mediated vPMU" if self.mediated else ""))

    def tags(self):
        tags = {self.kernel}
        tags |= {"stock"} if self.stock else set()
        tags |= {"v2"} if self.counters else set()
        return tags | ({"mediated"} if self.mediated else set())

    def prepare(self, folder, guest_kernels=("6.1",)):
        """Makes or fetches what is not in the folder yet."""
        for tool in ("cpio", "busybox", "xz", "dpkg-deb", "qemu-system-x86_64", "flock", "cc"):
            if not shutil.which(tool):
                raise CannotBeDone(f"there is no {tool}: tests/install_packages.sh emulated_host")
        script("kernels.sh", folder, self.kernel, *guest_kernels)
        script("guests.sh", folder)
        if not self.stock:
            if not (folder / "qemu/qemu-system-x86_64").exists():
                say("building QEMU with an AMD PMU, 3 to 4 minutes on two cores ...")
            script("qemu.sh", folder)

    def command(self, folder, work, append):
        """QEMU's command line and environment."""
        if self.stock:
            qemu, cpu = "qemu-system-x86_64", "EPYC-Milan,+svm,+npt,-cx16,enforce=off"
        else:
            qemu = str(folder / "qemu/qemu-system-x86_64")
            cpu = "EPYC-Milan,+svm,+npt,+perfctr-core,enforce=off"
            cpu += ",xlevel=0x80000022" if self.counters else ""
        environment = dict(os.environ)
        environment.pop("AMD_PMU_V2", None)
        if self.counters:
            environment["AMD_PMU_V2"] = str(self.counters)
        if self.mediated:
            append += " kvm_amd=enable_mediated_pmu=1"
        return [qemu, "-L", "/usr/share/qemu", "-L", "/usr/share/seabios",
                "-accel", "tcg,thread=multi", "-cpu", cpu, "-smp", "1", "-m", str(MEMORY),
                "-machine", "q35", "-nodefaults", "-display", "none", "-no-reboot",
                "-serial", f"file:{work}/console", "-serial", f"file:{work}/out",
                "-kernel", str(folder / "kernels" / self.kernel / "vmlinuz"),
                "-initrd", str(work / "initrd"), "-append",
                "console=ttyS0 panic=-1 loglevel=7 nmi_watchdog=0 tsc=reliable " + append
                ], environment


def room_in_memory():
    """How many hosts have room in the memory that is free, at most one a core."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"MemAvailable: *(\d+)", file.read())[1]) // 1024
    return min(os.cpu_count() or 1, free // (MEMORY + 600))


def pack(folder, archive):
    """Appends the folder as a cpio archive."""
    files = subprocess.run(["find", "."], cwd=folder, stdout=subprocess.PIPE, check=True).stdout
    with open(archive, "ab") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=folder, input=files,
                       stdout=out, check=True)


class Machine:
    """A host with the product in it; boots for each plan, and ends with the "with" block."""

    def __init__(self, host, folder, build, tests=False, roots=(), limit=3600):
        if room_in_memory() < 1:
            raise CannotBeDone(f"a host takes {MEMORY} MiB of memory, so much is not free")
        self._host, self._folder, self._limit = host, folder, limit
        self._build, self._tests, self._roots = build, tests, roots
        self._process, self._stopped = None, ""
        self.console = ""

    def __enter__(self):
        self._work = pathlib.Path(tempfile.mkdtemp(prefix="emulated_host."))
        script("root.sh", self._work / "root.cpio", self._build,
               *(["tests"] if self._tests else []))
        return self

    def __exit__(self, *unused):
        self.stop()
        shutil.rmtree(self._work, ignore_errors=True)

    def stop(self):
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _image(self, plan, done):
        initrd, extra = self._work / "initrd", self._work / "extra"
        shutil.rmtree(extra, ignore_errors=True)
        (extra / "guests").mkdir(parents=True)
        kernels = self._folder / "kernels"
        shutil.copytree(kernels / self._host.kernel / "modules", extra / "modules")
        for image in (self._folder / "guests").glob("*.cpio"):
            shutil.copy(image, extra / "guests")
        for kernel in ("6.1", "5.10"):
            if (kernels / kernel / "vmlinuz").exists():
                shutil.copy(kernels / kernel / "vmlinuz", extra / f"guests/vmlinuz-{kernel}")
        (extra / "plan.sh").write_text(plan)
        (extra / "done").write_text("".join(name + "\n" for name in done))
        shutil.copy(self._work / "root.cpio", initrd)
        for root in self._roots:
            with open(initrd, "ab") as out, open(root, "rb") as archive:
                shutil.copyfileobj(archive, out)
        pack(extra, initrd)

    def run(self, plan, done=(), output=None):
        """Boots and runs the plan: its status (None: the emulation ended) and what it printed."""
        self._image(plan, done)
        self._stopped = ""
        console, out = self._work / "console", self._work / "out"
        for file in (console, out):
            file.write_bytes(b"")
        command, environment = self._host.command(self._folder, self._work, "")
        with open(self._work / "emulator", "wb") as log, open(out, "rb") as said:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, start_new_session=True)
            text, begin, size = b"", time.monotonic(), 0
            last_word = begin
            while True:
                ended = self._process.poll() is not None
                new = said.read()
                text += new
                if new or console.stat().st_size != size:
                    last_word, size = time.monotonic(), console.stat().st_size
                if output and new:
                    output(new)
                if ended and not new:
                    break
                seconds, silence = time.monotonic() - begin, time.monotonic() - last_word
                if (seconds > self._limit or (seconds > PATIENCE and not text)
                        or (silence > SILENCE and text)):
                    self.stop()
                    self._stopped = (f"stopped after {seconds:.0f} seconds, the last "
                                     f"{silence:.0f} without a word")
                time.sleep(0.2)
        self.console = console.read_bytes().decode(errors="replace")
        status = re.search(r"HOST-DONE (\d+)", self.console)
        return (int(status[1]) if status else None), text.decode(errors="replace")

    def never_up(self):
        """Raises CannotBeDone if the last boot ended without a word of the host's kernel."""
        if not self.console.strip():
            raise CannotBeDone(f"no emulated host comes up here: {self.last_words()}")

    def last_words(self):
        """Why a boot ended early: QEMU's own status and last lines."""
        emulator = (self._work / "emulator").read_text(errors="replace")
        emulator = [line for line in emulator.splitlines() if "TCG doesn't support" not in line]
        code = self._process.returncode
        how = self._stopped or (f"signal {signal.Signals(-code).name}" if code < 0
                                else f"status {code}")
        lines = emulator[-2:] + [line for line in self.console.splitlines()
                                 if line.strip() and LIVES not in line][-2:]
        return f"{how}; " + " / ".join(line.strip()[:100] for line in lines)
