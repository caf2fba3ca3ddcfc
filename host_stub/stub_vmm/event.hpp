// SPDX-License-Identifier: MIT
//
// What happens in the host stub, one event at a time, for transcripts and tests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace host_stub {

struct Event {
  enum class Kind : uint8_t {
    step,   ///< `name` = the scenario's step; `text` = how it ended, `result` 0 = as it should
    hook,   ///< `name` = the hook; `text` = its subject and error; `result` = what it returned
    ioctl,  ///< `text` = the ioctl in one line (kvm/recorder.hpp); `result` = its result
    guest,  ///< `text` = a line of the guest's console
    log,    ///< `name` = who logs; `text` = the line; `level` = VMM_LOG_*
    note,   ///< `text` = something of the host stub's own to say
  };
  Kind kind = Kind::note;
  std::string name;
  std::string text;
  int32_t result = 0;
  uint32_t level = 0;
};

/// Called on any thread, one call at a time.
using EventSink = std::function<void(const Event&)>;

}  // namespace host_stub
