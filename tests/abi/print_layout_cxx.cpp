// SPDX-License-Identifier: MIT
//
// The same table seen by C++: a layout that differs between the languages would not be an ABI.
#include "print_layout.c"  // NOLINT(bugprone-suspicious-include): that is the point
