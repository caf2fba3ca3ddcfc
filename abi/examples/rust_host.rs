// SPDX-License-Identifier: MIT
//
// A small VMM in Rust that hosts plugins by libvmm_host: nothing of C++ crosses the boundary.
//   rustc -L LIBRARY_FOLDER -l vmm_host rust_host.rs && ./rust_host svm_pmu.so,log-level=info
use std::ffi::{c_char, c_void, CStr, CString};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

#[repr(C)]
struct VmmError { struct_size: u32, capacity: u32, message: *mut c_char }
#[repr(C)]
struct HostConfig {
    struct_size: u32,
    flags: u32,
    name: *const c_char,
    ctx: *mut c_void,
    log: Option<extern "C" fn(*mut c_void, u32, *const c_char, *const c_char)>,
    ioctl: Option<extern "C" fn(*mut c_void, i32, u32, *mut c_void) -> i32>,
}
#[repr(C)]
struct VmConfig { struct_size: u32, guest_pmu: u32, kvm_fd: i32, vm_fd: i32, max_vcpus: u32, reserved: u32 }
enum Plugins {}
enum Vm {}

#[link(name = "vmm_host")]
extern "C" {
    fn vmm_host_open(config: *const HostConfig, plugins: *const c_char, opened: *mut *mut Plugins,
                     error: *mut VmmError) -> i32;
    fn vmm_host_vm_created(plugins: *mut Plugins, config: *const VmConfig, created: *mut *mut Vm,
                           error: *mut VmmError) -> i32;
    fn vmm_host_vcpu_reset(vm: *mut Vm, index: u32, vcpu_fd: i32) -> i32;
    fn vmm_host_vcpu_save(vm: *mut Vm, index: u32, vcpu_fd: i32, buffer: *mut u8, capacity: u32,
                          size: *mut u32, error: *mut VmmError) -> i32;
    fn vmm_host_vcpu_restore(vm: *mut Vm, index: u32, vcpu_fd: i32, buffer: *const u8, size: u32,
                             error: *mut VmmError) -> i32;
    fn vmm_host_vm_destroyed(vm: *mut Vm);
    fn vmm_host_close(plugins: *mut Plugins);
}
extern "C" {
    fn ioctl(fd: i32, request: u64, ...) -> i32;
}
const KVM_CREATE_VM: u64 = 0xae01;
const KVM_CREATE_VCPU: u64 = 0xae41;

extern "C" fn log(_ctx: *mut c_void, level: u32, source: *const c_char, message: *const c_char) {
    let text = |s| unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned();
    println!("log {level}: {}: {}", text(source), text(message));
}

/// The call's words if it failed.
fn checked(result: i32, what: &str, words: &[u8]) -> Result<(), String> {
    if result >= 0 {
        return Ok(());
    }
    let end = words.iter().position(|&c| c == 0).unwrap_or(words.len());
    Err(format!("{what}: {result}: {}", String::from_utf8_lossy(&words[..end])))
}

fn main() -> Result<(), String> {
    let list = std::env::args().nth(1).ok_or("usage: rust_host PLUGINS")?;
    let (list, name) = (CString::new(list).unwrap(), CString::new("rust_host 1.0").unwrap());
    let mut words = [0u8; 256];
    let mut error = VmmError { struct_size: 16, capacity: 256, message: words.as_mut_ptr().cast() };
    let config = HostConfig { struct_size: std::mem::size_of::<HostConfig>() as u32, flags: 0,
        name: name.as_ptr(), ctx: std::ptr::null_mut(), log: Some(log), ioctl: None };
    let (mut plugins, mut vm) = (std::ptr::null_mut(), std::ptr::null_mut());
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(|e| e.to_string())?;
    let mut state = [0u8; 4096];
    let mut size = 0u32;
    unsafe {
        checked(vmm_host_open(&config, list.as_ptr(), &mut plugins, &mut error), "open", &words)?;
        let vm_fd = ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0);
        let vm_config = VmConfig { struct_size: 24, guest_pmu: 0, kvm_fd: kvm.as_raw_fd(), vm_fd,
            max_vcpus: 1, reserved: 0 };
        checked(vmm_host_vm_created(plugins, &vm_config, &mut vm, &mut error), "vm_created", &words)?;
        let vcpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
        checked(vmm_host_vcpu_reset(vm, 0, vcpu), "vcpu_reset", &[])?;
        checked(vmm_host_vcpu_save(vm, 0, vcpu, state.as_mut_ptr(), 4096, &mut size, &mut error),
                "save", &words)?;
        checked(vmm_host_vcpu_restore(vm, 0, vcpu, state.as_ptr(), size, &mut error), "restore", &words)?;
        println!("rust_host: a vCPU's state is {size} bytes");
        vmm_host_vm_destroyed(vm);
        vmm_host_close(plugins);
    }
    Ok(())
}
