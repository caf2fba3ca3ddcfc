// must be found: clang-analyzer-core.NullDereference
int value_of(const int* value) {
  if (value != nullptr) return 0;
  return *value;
}
