// must be found: host_preload may not include tests
#include "support/process.hpp"
