// SPDX-License-Identifier: MIT
//
// Which object is behind a file descriptor? A lookup is two loads, whatever the number of the
// descriptor, and takes no lock; storing may allocate a page of the table, which stays as long as
// it. The table owns nothing: what a store displaces is handed back.
//
// Threads: everything may be called from any.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <new>

namespace host_preload {

template <typename T>
class FdTable {
 private:
  static constexpr std::size_t kPageSize = 1024;
  using Page = std::array<std::atomic<T*>, kPageSize>;

 public:
  /// The kernel's own default limit (fs.nr_open).
  static constexpr int kMaxFds = 1 << 20;

  constexpr FdTable() noexcept = default;
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;
  ~FdTable() {
    for (std::atomic<Page*>& page : pages_) delete page.load(std::memory_order_relaxed);
  }

  T* get(int fd) const noexcept {
    const auto number = static_cast<unsigned>(fd);
    if (number >= static_cast<unsigned>(kMaxFds)) return nullptr;
    const Page* page = pages_[number / kPageSize].load(std::memory_order_acquire);
    return page == nullptr ? nullptr : (*page)[number % kPageSize].load(std::memory_order_acquire);
  }

  /// Makes room for `fd`, so that the next put of it cannot fail. False: out of memory, or of
  /// range.
  bool reserve(int fd) noexcept { return page_of(fd) != nullptr; }

  /// Stores; `object` may be nullptr. What was there before, which is `object` itself if there was
  /// no room.
  T* put(int fd, T* object) noexcept {
    if (object == nullptr && get(fd) == nullptr) return nullptr;
    Page* page = page_of(fd);
    if (page == nullptr) return object;
    return (*page)[static_cast<unsigned>(fd) % kPageSize].exchange(object,
                                                                   std::memory_order_acq_rel);
  }

  /// Calls visit(fd, object) for each that is there.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::size_t i = 0; i < pages_.size(); ++i) {
      const Page* page = pages_[i].load(std::memory_order_acquire);
      if (page == nullptr) continue;
      for (std::size_t k = 0; k < kPageSize; ++k)
        if (T* object = (*page)[k].load(std::memory_order_acquire))
          visit(static_cast<int>(i * kPageSize + k), object);
    }
  }

 private:
  Page* page_of(int fd) noexcept {
    const auto number = static_cast<unsigned>(fd);
    if (number >= static_cast<unsigned>(kMaxFds)) return nullptr;
    std::atomic<Page*>& slot = pages_[number / kPageSize];
    Page* page = slot.load(std::memory_order_acquire);
    if (page != nullptr) return page;
    // cppcheck-suppress legacyUninitvar ; new sets it
    Page* fresh = new (std::nothrow) Page{};
    if (fresh == nullptr) return nullptr;
    if (slot.compare_exchange_strong(page, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;  // another thread was first
    return page;
  }

  std::array<std::atomic<Page*>, kMaxFds / kPageSize> pages_{};
};

}  // namespace host_preload
