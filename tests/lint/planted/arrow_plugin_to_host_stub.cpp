// must be found: plugin may not include host_stub/kvm
#include "kvm/kvm.hpp"
