// SPDX-License-Identifier: MIT
//
// A folder for a test, which goes away with it.
#pragma once

#include <sys/stat.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::array<char, 32> name{"/tmp/svm_pmu_test_XXXXXX"};
    BOOST_REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name.data();
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  /// Writes a file in it; its path.
  std::string file(const std::string& name, const std::string& content, mode_t mode = 0644) const {
    std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    chmod(path.c_str(), mode);
    return path;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};
