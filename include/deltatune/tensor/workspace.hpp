// A planned arena for everything that lives no longer than a step: saved activations and scratch.
//
// It is a stack: take() pushes, release() pops back to a mark. A dry run of the step (see ContextBase::dry_run) measures the peak,
// reserve() makes one block of it, and from then on no step allocates. Without a plan it grows by further blocks and merges them
// when it is empty again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

template <class B>
class Workspace {
 public:
  using Context = typename B::Context;
  static constexpr Index kAlignment = 64;  // bytes: a cache line, and the widest vector load

  explicit Workspace(Context& ctx) : ctx_(&ctx) {}
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { free_blocks(); }

  // An uninitialised matrix, valid until release() of an earlier mark.
  template <class T>
  View<T> take(Index rows, Index cols) {
    const Index bytes = (rows * cols * static_cast<Index>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    const Index begin = used_;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    return {static_cast<T*>(ctx_->dry_run() ? address_in_dry_run(begin) : address(begin, bytes)), rows, cols};
  }

  Index mark() const { return used_; }
  void release(Index mark) {
    used_ = mark;
    if (used_ == 0 && blocks_.size() > 1) reserve(peak_);
  }

  // Makes room for `bytes`; only while nothing is taken.
  void reserve(Index bytes) {
    if (blocks_.size() == 1 && blocks_[0].bytes >= bytes) return;
    free_blocks();
    add_block(0, bytes);
  }

  Index peak() const { return peak_; }  // bytes, largest extent so far
  void reset_peak() { peak_ = used_; }
  Context& context() { return *ctx_; }

 private:
  struct Block {
    Index begin;  // first byte offset of the stack that this block holds
    Index bytes;
    char* data;
  };

  // Never dereferenced: backends do nothing in a dry run.
  static void* address_in_dry_run(Index begin) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(begin + kAlignment)); }

  void* address(Index begin, Index bytes) {
    // Every block keeps the stack's own offsets, so two live matrices never share bytes, whichever blocks they land in.
    for (const Block& block : blocks_)
      if (begin >= block.begin && begin + bytes <= block.begin + block.bytes) return block.data + (begin - block.begin);
    return add_block(begin, std::max(bytes, peak_));
  }
  void* add_block(Index begin, Index bytes) {
    blocks_.push_back({begin, bytes, static_cast<char*>(B::allocate(*ctx_, bytes))});
    return blocks_.back().data;
  }
  void drop_last() {
    B::release(*ctx_, blocks_.back().data, blocks_.back().bytes);
    blocks_.pop_back();
  }
  void free_blocks() {
    while (!blocks_.empty()) drop_last();
  }

  Context* ctx_;
  std::vector<Block> blocks_;
  Index used_ = 0;
  Index peak_ = 0;
};

// Gives back on scope exit what was taken inside the scope.
template <class B>
class WorkspaceScope {
 public:
  explicit WorkspaceScope(Workspace<B>& workspace) : workspace_(workspace), mark_(workspace.mark()) {}
  WorkspaceScope(const WorkspaceScope&) = delete;
  WorkspaceScope& operator=(const WorkspaceScope&) = delete;
  ~WorkspaceScope() { workspace_.release(mark_); }

 private:
  Workspace<B>& workspace_;
  Index mark_;
};

}  // namespace deltatune
