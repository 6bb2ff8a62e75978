// What every backend's context carries: counters of multiplications and memory, and the dry run.
#pragma once

#include <algorithm>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune {

// One matrix product as it was asked for: (m, k) times (k, n).
struct GemmRecord {
  Index m, n, k;
};

// Base of the contexts. Made by the user, passed first to everything, never global.
class ContextBase {
 public:
  ContextBase() = default;
  ContextBase(const ContextBase&) = delete;
  ContextBase& operator=(const ContextBase&) = delete;

  // Products since reset_counters(). trace_gemms(&list) also records each; nullptr stops it.
  Index gemm_calls() const { return gemm_calls_; }
  Index gemm_flops() const { return gemm_flops_; }
  void trace_gemms(std::vector<GemmRecord>* trace) { gemm_trace_ = trace; }

  // Memory held through this context.
  Index allocations() const { return allocations_; }  // calls since reset_counters()
  Index live_bytes() const { return live_bytes_; }
  Index peak_bytes() const { return peak_bytes_; }

  void reset_counters() { gemm_calls_ = gemm_flops_ = allocations_ = 0; }

  // In a dry run no kernel executes: products are counted and the workspace is measured, nothing is read or written.
  bool dry_run() const { return dry_run_; }
  void set_dry_run(bool on) { dry_run_ = on; }

  // For backends.
  void count_gemm(Index m, Index n, Index k) {
    ++gemm_calls_;
    gemm_flops_ += 2 * m * n * k;
    if (gemm_trace_ != nullptr) gemm_trace_->push_back({m, n, k});
  }
  void count_allocation(Index bytes) {
    ++allocations_;
    live_bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  }
  void count_release(Index bytes) { live_bytes_ -= bytes; }

 private:
  Index gemm_calls_ = 0;
  Index gemm_flops_ = 0;
  Index allocations_ = 0;
  Index live_bytes_ = 0;
  Index peak_bytes_ = 0;
  std::vector<GemmRecord>* gemm_trace_ = nullptr;
  bool dry_run_ = false;
};

// Sets the dry run for a scope.
class DryRun {
 public:
  explicit DryRun(ContextBase& ctx) : ctx_(ctx), before_(ctx.dry_run()) { ctx_.set_dry_run(true); }
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;
  ~DryRun() { ctx_.set_dry_run(before_); }

 private:
  ContextBase& ctx_;
  bool before_;
};

}  // namespace deltatune
