// must be found: abi/include may not include abi/host_kit
#include "host_kit/host.hpp"
