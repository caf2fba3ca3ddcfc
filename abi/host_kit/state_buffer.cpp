// SPDX-License-Identifier: MIT
#include "host_kit/state_buffer.hpp"

#include <boost/crc.hpp>
#include <boost/endian/conversion.hpp>
#include <cerrno>

namespace host_kit {
namespace {

constexpr uint32_t kMagic = 0x524d4d56;  // "VMMR"
constexpr uint32_t kVersion = 1;
constexpr std::size_t kHeaderSize = 16;
constexpr std::size_t kRegisterSize = 16;
static_assert(state_size(1) == kHeaderSize + kRegisterSize);

void put32(std::span<std::byte> out, std::size_t at, uint32_t value) noexcept {
  boost::endian::store_little_u32(reinterpret_cast<unsigned char*>(out.data() + at), value);
}
void put64(std::span<std::byte> out, std::size_t at, uint64_t value) noexcept {
  boost::endian::store_little_u64(reinterpret_cast<unsigned char*>(out.data() + at), value);
}
uint32_t get32(std::span<const std::byte> in, std::size_t at) noexcept {
  return boost::endian::load_little_u32(reinterpret_cast<const unsigned char*>(in.data() + at));
}
uint64_t get64(std::span<const std::byte> in, std::size_t at) noexcept {
  return boost::endian::load_little_u64(reinterpret_cast<const unsigned char*>(in.data() + at));
}

uint32_t checksum(std::span<const std::byte> registers) noexcept {
  boost::crc_32_type crc;
  crc.process_bytes(registers.data(), registers.size());
  return crc.checksum();
}

}  // namespace

void write_state(std::span<const SavedMsr> state, std::span<std::byte> out) noexcept {
  if (state.empty()) return;
  put32(out, 0, kMagic);
  put32(out, 4, kVersion);
  put32(out, 8, static_cast<uint32_t>(state.size()));
  std::size_t at = kHeaderSize;
  for (const SavedMsr& saved : state) {
    put32(out, at, saved.index);
    put32(out, at + 4, 0);
    put64(out, at + 8, saved.value);
    at += kRegisterSize;
  }
  put32(out, 12, checksum(out.subspan(kHeaderSize, at - kHeaderSize)));
}

tl::expected<std::vector<SavedMsr>, StateError> read_state(std::span<const std::byte> in) {
  const auto bad = [](std::string text) {
    return tl::unexpected(StateError{-EBADMSG, "saved registers: " + std::move(text)});
  };
  if (in.empty()) return {};
  if (in.size() < kHeaderSize || get32(in, 0) != kMagic)
    return bad("they do not begin with \"VMMR\"");
  if (const uint32_t version = get32(in, 4); version != kVersion)
    return tl::unexpected(StateError{-EPROTONOSUPPORT, "saved registers: their format is version " +
                                                           std::to_string(version) +
                                                           ", this library reads 1"});
  const uint32_t count = get32(in, 8);
  if (count == 0 || count > kMaxStateRegisters || in.size() != state_size(count))
    return bad("there are " + std::to_string(in.size()) + " bytes, not what " +
               std::to_string(count) + " registers need");
  if (get32(in, 12) != checksum(in.subspan(kHeaderSize)))
    return bad("the checksum is wrong: at least one byte has changed");
  std::vector<SavedMsr> state;
  state.reserve(count);
  for (std::size_t at = kHeaderSize; at < in.size(); at += kRegisterSize) {
    if (get32(in, at + 4) != 0) return bad("a reserved field is not 0");
    state.push_back({get32(in, at), get64(in, at + 8)});
  }
  return state;
}

}  // namespace host_kit
