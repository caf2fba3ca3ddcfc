// SPDX-License-Identifier: MIT
//
// Runs a program and keeps what it printed and how it ended.
#pragma once

#include <string>
#include <vector>

struct ProcessResult {
  int status = -1;  ///< exit status; 128 + signal if it was killed
  std::string out, err;
};

/// `arguments[0]` is the program's path. `environment`: added to this process's own, "NAME=value".
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment = {});
