// SPDX-License-Identifier: MIT
#include "check/plugin/import_traps.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <span>
#include <string_view>
#include <utility>

namespace host_stub::validate {
namespace {

/// A function that stands in for an import.
struct Substitute {
  std::string_view import;
  void* function;
};

/// The values of the dynamic section that lead to the imports; the loader made them addresses.
struct ImportTables {
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
  std::span<const Elf64_Rela> lazy, data;
};

ImportTables tables_of(const link_map& object) {
  ImportTables tables;
  const Elf64_Rela *lazy = nullptr, *data = nullptr;
  std::size_t lazy_bytes = 0, data_bytes = 0;
  for (const Elf64_Dyn* entry = object.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const auto pointer = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        tables.symbols = reinterpret_cast<const Elf64_Sym*>(pointer);
        break;
      case DT_STRTAB:
        tables.strings = reinterpret_cast<const char*>(pointer);
        break;
      case DT_JMPREL:
        lazy = reinterpret_cast<const Elf64_Rela*>(pointer);
        break;
      case DT_PLTRELSZ:
        lazy_bytes = entry->d_un.d_val;
        break;
      case DT_RELA:
        data = reinterpret_cast<const Elf64_Rela*>(pointer);
        break;
      case DT_RELASZ:
        data_bytes = entry->d_un.d_val;
        break;
      default:
        break;
    }
  }
  if (lazy != nullptr) tables.lazy = {lazy, lazy_bytes / sizeof(Elf64_Rela)};
  if (data != nullptr) tables.data = {data, data_bytes / sizeof(Elf64_Rela)};
  return tables;
}

/// Writes one slot of the import table, which is read-only after loading (RELRO).
bool write_slot(void** slot, void* value) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  void* start = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(page - 1));
  if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0) return false;
  *slot = value;
  return true;
}

int substitute(const void* address, std::span<const Substitute> substitutes) {
  Dl_info info{};
  link_map* object = nullptr;
  if (dladdr1(address, &info, reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP) == 0 ||
      object == nullptr)
    return -1;
  const ImportTables tables = tables_of(*object);
  if (tables.symbols == nullptr || tables.strings == nullptr) return -1;
  int found = 0;
  for (const auto& relocations : {tables.lazy, tables.data})
    for (const Elf64_Rela& relocation : relocations) {
      const auto type = ELF64_R_TYPE(relocation.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
      const Elf64_Sym& symbol = tables.symbols[ELF64_R_SYM(relocation.r_info)];
      if (symbol.st_shndx != SHN_UNDEF) continue;
      const std::string_view name = tables.strings + symbol.st_name;
      const auto match = std::ranges::find(substitutes, name, &Substitute::import);
      if (match == substitutes.end()) continue;
      if (!write_slot(reinterpret_cast<void**>(object->l_addr + relocation.r_offset),
                      match->function))
        return -1;
      ++found;
    }
  return found;
}

// ---- traps

/// Allocating functions first.
constexpr auto kForbidden = std::to_array<std::string_view>(
    {"malloc", "calloc", "realloc", "reallocarray", "aligned_alloc", "posix_memalign", "memalign",
     "strdup", "strndup", "asprintf", "vasprintf", "__asprintf_chk", "__vasprintf_chk", "mmap",
     "getline", "getdelim", "__getdelim", "fopen", "fopen64", "fdopen", "opendir",
     // operator new, with its alignments and nothrow
     "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t",
     "_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
     "_ZnamSt11align_val_tRKSt9nothrow_t", "__cxa_allocate_exception",
     // the others: free and operator delete, throws, locks, output
     "free", "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZdlPvSt11align_val_t",
     "_ZdlPvmSt11align_val_t", "_ZdaPvSt11align_val_t", "_ZdaPvmSt11align_val_t",
     "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
     "_ZdaPvSt11align_val_tRKSt9nothrow_t", "__cxa_throw", "__cxa_rethrow", "pthread_mutex_lock",
     "pthread_mutex_trylock", "pthread_mutex_timedlock", "pthread_spin_lock",
     "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_once", "pthread_cond_wait",
     "mtx_lock", "call_once", "sem_wait", "__cxa_guard_acquire", "puts", "putchar", "fputs",
     "fputc", "fwrite", "printf", "fprintf", "vprintf", "vfprintf", "__printf_chk", "__fprintf_chk",
     "__vfprintf_chk", "write", "syslog", "__syslog_chk"});
constexpr auto kAllocating =
    static_cast<std::size_t>(std::ranges::find(kForbidden, "free") - kForbidden.begin());

Findings* notes = nullptr;
unsigned noted_rule = 0;

template <std::size_t N>
void trap() {
  notes->fail(noted_rule, "{} called in {}", kForbidden[N], notes->function());
  notes->finish();
  syscall(SYS_exit_group, 0);
}

template <std::size_t... N>
auto all_traps(std::index_sequence<N...>) {
  return std::array{Substitute{kForbidden[N], reinterpret_cast<void*>(&trap<N>)}...};
}

// ---- starving

std::atomic<uint32_t> allocations_left{~0U};
std::atomic<uint32_t> failures{0};

bool may_allocate() {
  uint32_t left = allocations_left;
  while (left != 0) {
    if (left == ~0U || allocations_left.compare_exchange_weak(left, left - 1)) return true;
  }
  ++failures;
  return false;
}
// NOLINTBEGIN(cppcoreguidelines-no-malloc): they stand in for the plugin's own calls
void* scarce_malloc(std::size_t size) { return may_allocate() ? std::malloc(size) : nullptr; }
void* scarce_calloc(std::size_t count, std::size_t size) {
  return may_allocate() ? std::calloc(count, size) : nullptr;
}
// NOLINTEND(cppcoreguidelines-no-malloc)
void* scarce_new(std::size_t size) {
  if (!may_allocate()) throw std::bad_alloc();
  return ::operator new(size);
}

}  // namespace

int trap_imports(const void* address, TrapKind kind, Findings& findings, unsigned rule) {
  notes = &findings;
  noted_rule = rule;
  const auto traps = all_traps(std::make_index_sequence<kForbidden.size()>());
  return substitute(address, std::span<const Substitute>(traps).first(
                                 kind == TrapKind::all ? traps.size() : kAllocating));
}

int starve_imports(const void* address, uint32_t allocations) {
  const Substitute scarce[] = {{"malloc", reinterpret_cast<void*>(&scarce_malloc)},
                               {"calloc", reinterpret_cast<void*>(&scarce_calloc)},
                               {"_Znwm", reinterpret_cast<void*>(&scarce_new)},
                               {"_Znam", reinterpret_cast<void*>(&scarce_new)}};
  failures = 0;
  allocations_left = allocations;
  return substitute(address, scarce);
}

uint32_t feed_imports() {
  allocations_left = ~0U;
  return failures;
}

}  // namespace host_stub::validate
