// must be found: bugprone-use-after-move
#include <utility>
#include <vector>

std::size_t size_after(std::vector<int> numbers) {
  const std::vector<int> taken = std::move(numbers);
  return taken.size() + numbers.size();
}
