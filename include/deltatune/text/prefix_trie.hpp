// All keys that a text begins with: a double-array trie.
// J. Aoe, An Efficient Digital Search Algorithm by Using a Double-Array Structure, 1989
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"

namespace deltatune::detail {

class PrefixTrie {
 public:
  static constexpr std::int32_t kNone = -1;

  PrefixTrie() : nodes_(kAlphabet + 1) {}

  // Keys that differ, none of them empty; values are at least 0.
  DELTATUNE_FUNCTION explicit PrefixTrie(std::vector<std::pair<std::string_view, std::int32_t>> keys) {
    std::sort(keys.begin(), keys.end());
    nodes_.resize(keys.size() * 2 + kAlphabet + 1);
    nodes_[0].parent = 0;
    struct Task {
      std::int32_t node;
      std::size_t first, last, depth;
    };
    std::vector<Task> tasks{{0, 0, keys.size(), 0}};
    std::vector<std::pair<std::size_t, std::size_t>> children;  // byte, first key
    while (!tasks.empty()) {
      Task task = tasks.back();
      tasks.pop_back();
      if (task.first < task.last && keys[task.first].first.size() == task.depth) {
        nodes_[static_cast<std::size_t>(task.node)].value = keys[task.first++].second;
      }
      if (task.first == task.last) continue;
      children.clear();
      for (std::size_t i = task.first; i < task.last; ++i) {
        const std::size_t byte = static_cast<unsigned char>(keys[i].first[task.depth]);
        if (children.empty() || children.back().first != byte) children.emplace_back(byte, i);
      }
      const std::size_t base = free_base(children);
      nodes_[static_cast<std::size_t>(task.node)].base = static_cast<std::int32_t>(base);
      for (std::size_t i = 0; i < children.size(); ++i) {
        const std::size_t node = base + children[i].first;
        nodes_[node].parent = task.node;
        tasks.push_back({static_cast<std::int32_t>(node), children[i].second, i + 1 < children.size() ? children[i + 1].second : task.last, task.depth + 1});
      }
    }
    nodes_.resize(last_used_ + kAlphabet + 1);
    nodes_.shrink_to_fit();
  }

  // Calls visit(length, value) for each key with which text[at, ...) begins, the shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, std::size_t at, Visit&& visit) const {
    const Node* const nodes = nodes_.data();
    std::size_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
      const std::size_t child = static_cast<std::size_t>(nodes[node].base) + static_cast<unsigned char>(text[i]);
      if (nodes[child].parent != static_cast<std::int32_t>(node) || child == 0) return;
      node = child;
      if (nodes[node].value != kNone) visit(i + 1 - at, nodes[node].value);
    }
  }

 private:
  struct Node {
    std::int32_t base = 0, parent = kNone, value = kNone;  // a child is at base + its byte; a leaf's base is 0, where its children would not be theirs
  };
  static constexpr std::size_t kAlphabet = 256;

  // Where all children find a free place. Places before `search_from_` are all but full.
  DELTATUNE_FUNCTION std::size_t free_base(const std::vector<std::pair<std::size_t, std::size_t>>& children) {
    const std::size_t lowest = children.front().first;
    std::size_t taken = 0, first_free = 0;
    for (std::size_t at = std::max(search_from_, lowest + 1);; ++at) {
      if (at + kAlphabet >= nodes_.size()) nodes_.resize(nodes_.size() * 2);
      if (nodes_[at].parent != kNone) {
        ++taken;
        continue;
      }
      if (first_free == 0) first_free = at;
      const std::size_t base = at - lowest;
      const bool fits = std::all_of(children.begin(), children.end(), [&](const auto& child) { return nodes_[base + child.first].parent == kNone; });
      if (!fits) continue;
      if (taken * 20 >= (at + 1 - std::max(search_from_, lowest + 1)) * 19) search_from_ = at;
      last_used_ = std::max(last_used_, base + children.back().first);
      return base;
    }
  }

  std::vector<Node> nodes_;
  std::size_t search_from_ = 1, last_used_ = 0;
};

}  // namespace deltatune::detail
