// std::stable_sort for all compilers: with libstdc++ 12 a current clang reports that one's temporary buffer as deprecated.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

namespace deltatune::detail {

// Sorts; equal elements keep their order. O(n log n) comparisons.
template <class Iterator, class Less>
void sort_stably(Iterator first, Iterator last, const Less& less) {
  if (std::is_sorted(first, last, less)) return;
  std::vector<std::pair<typename std::iterator_traits<Iterator>::value_type, std::size_t>> numbered;
  for (Iterator at = first; at != last; ++at) numbered.emplace_back(std::move(*at), numbered.size());
  std::sort(numbered.begin(), numbered.end(),
            [&less](const auto& a, const auto& b) { return less(a.first, b.first) || (!less(b.first, a.first) && a.second < b.second); });
  for (auto& each : numbered) *first++ = std::move(each.first);
}

}  // namespace deltatune::detail
