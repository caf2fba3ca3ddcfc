// SPDX-License-Identifier: MIT
//
// What a VMM's command line says of its guest: lines as the tools write them, and QEMU's rules of
// which setting wins.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <iterator>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "host_preload/vmm_command_line.hpp"

namespace host_preload {
std::ostream& operator<<(std::ostream& out, GuestPmu pmu) {
  return out << (pmu == GuestPmu::off ? "off" : pmu == GuestPmu::on ? "on" : "unsaid");
}
}  // namespace host_preload

namespace {

using namespace host_preload;

struct Row {
  const char* arguments;  // after the program, split at spaces
  GuestPmu pmu;
  const char* name;
};
std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.arguments; }

VmmCommandLine read(const std::string& arguments) {
  std::istringstream stream("qemu-system-x86_64 " + arguments);
  const std::vector<std::string> words{std::istream_iterator<std::string>(stream),
                                       std::istream_iterator<std::string>()};
  return read_command_line(words);
}

const std::vector<Row> kTools{
    // libvirt 9.0, <pmu state='off'/>, host-passthrough
    {"-name guest=web-1,debug-threads=on -S -object "
     "{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\"} -machine "
     "pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram -accel kvm -cpu "
     "host,migratable=on,pmu=off -m 2048 -overcommit mem-lock=off -smp "
     "2,sockets=2,cores=1,threads=1"
     " -uuid 6c0f3cd1-2a2c-4c0b-9d27-2a0c8f4e7b11 -no-user-config -nodefaults",
     GuestPmu::off, "web-1"},
    // the same, nothing said of the PMU
    {"-name guest=web-1,debug-threads=on -S -machine pc-q35-7.2,usb=off -accel kvm -cpu "
     "EPYC-Rome,x2apic=on,tsc-deadline=on,hypervisor=on,tsc-adjust=on,arch-capabilities=on,"
     "xsaves=off,svm=on -m size=2097152k",
     GuestPmu::unsaid, "web-1"},
    // OpenStack Nova, hw:pmu=False, by way of libvirt
    {"-name guest=instance-0000002a,debug-threads=on -S -machine pc-i440fx-6.2,usb=off -accel kvm "
     "-cpu EPYC-Milan,vme=on,x2apic=on,erms=on,pmu=off -m 4096",
     GuestPmu::off, "instance-0000002a"},
    // Proxmox VE 8, cpu type host
    {"-id 100 -name vm-a,debug-threads=on -no-shutdown -chardev "
     "socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off -mon "
     "chardev=qmp,mode=control -daemonize -smp 4,sockets=1,cores=4,maxcpus=4 -nodefaults -cpu "
     "host,+kvm_pv_eoi,+kvm_pv_unhalt -m 4096",
     GuestPmu::unsaid, "vm-a"},
    // Proxmox VE, args: -cpu of the operator's own after the tool's
    {"-id 100 -name vm-a,debug-threads=on -cpu host,+kvm_pv_eoi,+kvm_pv_unhalt -m 4096 -cpu "
     "host,+kvm_pv_eoi,-pmu",
     GuestPmu::off, "vm-a"},
    // Kata Containers 3, the QEMU runtime's default for x86
    {"-name sandbox-5f1d,debug-threads=on -uuid a5 -machine q35,accel=kvm,nvdimm=on -cpu "
     "host,pmu=off -qmp unix:/run/vc/vm/5f1d/qmp.sock,server=on,wait=off -m 2048M,slots=10",
     GuestPmu::off, "sandbox-5f1d"},
    // other VMMs
    {"--api-socket /tmp/ch.sock --cpus boot=2 --memory size=1024M", GuestPmu::unsaid, ""},
    {"run --cpus 2 --mem 1024 --no-pmu vmlinux", GuestPmu::unsaid, ""},
    {"run -k bzImage -c 2 -m 512 --name guest-7", GuestPmu::unsaid, "guest-7"},
};

const std::vector<Row> kRules{
    {"-cpu host", GuestPmu::unsaid, ""},
    {"-cpu host,-pmu", GuestPmu::off, ""},
    {"--cpu host,-pmu", GuestPmu::off, ""},
    {"-cpu host,+pmu", GuestPmu::on, ""},
    {"-cpu host,pmu", GuestPmu::on, ""},
    {"-cpu host,pmu=on,pmu=off", GuestPmu::off, ""},
    {"-cpu host,pmu=off,pmu=on", GuestPmu::on, ""},
    // the signs come after the values, minus after plus
    {"-cpu host,+pmu,pmu=off", GuestPmu::on, ""},
    {"-cpu host,-pmu,pmu=on", GuestPmu::off, ""},
    {"-cpu host,-pmu,+pmu", GuestPmu::off, ""},
    // words of a switch; any other is QEMU's to refuse
    {"-cpu host,pmu=no", GuestPmu::off, ""},
    {"-cpu host,pmu=n", GuestPmu::off, ""},
    {"-cpu host,pmu=false", GuestPmu::off, ""},
    {"-cpu host,pmu=yes", GuestPmu::on, ""},
    {"-cpu host,pmu=y", GuestPmu::on, ""},
    {"-cpu host,pmu=true", GuestPmu::on, ""},
    {"-cpu host,pmu=OFF", GuestPmu::unsaid, ""},
    {"-cpu host,pmu=0", GuestPmu::unsaid, ""},
    {"-cpu host,pmu=", GuestPmu::unsaid, ""},
    // what only looks like it
    {"-cpu pmu=off", GuestPmu::unsaid, ""},
    {"-cpu host,xpmu=off,pmu2=off,-pmux", GuestPmu::unsaid, ""},
    {"-cpu", GuestPmu::unsaid, ""},
    {"-append pmu=off -machine q35,pmu=off", GuestPmu::unsaid, ""},
    {"-readconfig vm.cfg", GuestPmu::unsaid, ""},
    // the last -cpu counts, even if it says nothing
    {"-cpu host,pmu=on -cpu EPYC,-pmu", GuestPmu::off, ""},
    {"-cpu host,-pmu -cpu EPYC", GuestPmu::unsaid, ""},
    // -global, below -cpu
    {"-cpu host -global cpu.pmu=off", GuestPmu::off, ""},
    {"-global host-x86_64-cpu.pmu=off -cpu host", GuestPmu::off, ""},
    {"-global driver=x86_64-cpu,property=pmu,value=off", GuestPmu::off, ""},
    {"-global cpu.pmu=off -global cpu.pmu=on", GuestPmu::on, ""},
    {"-cpu host,pmu=on -global cpu.pmu=off", GuestPmu::on, ""},
    {"-global virtio-net-pci.pmu=off", GuestPmu::unsaid, ""},
    {"-global cpu.pmu", GuestPmu::unsaid, ""},
    // names
    {"-name a", GuestPmu::unsaid, "a"},
    {"-name guest=a", GuestPmu::unsaid, "a"},
    {"--name=a", GuestPmu::unsaid, "a"},
    {"-name process=p,guest=a", GuestPmu::unsaid, "a"},
    {"-name a -name b", GuestPmu::unsaid, "b"},
    {"-name a -name debug-threads=on", GuestPmu::unsaid, "a"},
    {"-name a,,b,debug-threads=on", GuestPmu::unsaid, "a,b"},
    {"-name -cpu -cpu host,-pmu", GuestPmu::off, "-cpu"},
    {"", GuestPmu::unsaid, ""},
};

void check(const Row& row) {
  const VmmCommandLine found = read(row.arguments);
  BOOST_TEST(found.guest_pmu == row.pmu);
  BOOST_TEST(found.vm_name == row.name);
}

}  // namespace

BOOST_DATA_TEST_CASE(lines_of_real_tools, boost::unit_test::data::make(kTools), row) { check(row); }

BOOST_DATA_TEST_CASE(which_setting_wins, boost::unit_test::data::make(kRules), row) { check(row); }

BOOST_AUTO_TEST_CASE(no_arguments_at_all) {
  BOOST_TEST(read_command_line({}).vm_name.empty());
  BOOST_TEST(read_command_line({}).guest_pmu == GuestPmu::unsaid);
}

BOOST_AUTO_TEST_CASE(this_process_has_a_command_line) {
  const std::vector<std::string> own = own_command_line();
  BOOST_REQUIRE(!own.empty());
  BOOST_TEST(own[0] == boost::unit_test::framework::master_test_suite().argv[0]);
}
