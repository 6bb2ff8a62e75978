// Streams that run late: everything asked of them waits in a queue until somebody waits for it. A stream nobody waits for does nothing,
// unless an event in another one demands it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda_emulation/counters.hpp"
#include "cuda_emulation/memory.hpp"
#include "cuda_emulation/report.hpp"

namespace cuda_emulation {

enum class NodeKind { kernel, copy, set, other };

struct Operation {
  NodeKind kind = NodeKind::other;
  const void* function = nullptr;  // what makes two kernel nodes of a graph the same
  std::string name;
  std::function<void()> run;
};

}  // namespace cuda_emulation

struct CUgraph_st {
  std::vector<cuda_emulation::Operation> nodes;
};
struct CUgraphExec_st {
  std::vector<cuda_emulation::Operation> nodes;
};

struct CUstream_st {
  bool blocking = true;  // waits for the default stream, and it for this one
  std::deque<cuda_emulation::Operation> queue;
  unsigned unanswered = 0;  // queries since something ran
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  std::thread::id capture_thread;
  CUgraph_st graph;  // what the capture has seen
};

namespace cuda_emulation {

// One recording of an event.
struct Recording {
  cudaStream_t stream = nullptr;
  bool done = false;
  bool captured = false;
  std::chrono::steady_clock::time_point time;
};

}  // namespace cuda_emulation

struct CUevent_st {
  bool timed = true;
  std::shared_ptr<cuda_emulation::Recording> recording;  // the latest; none: nothing to wait for
};
struct CUmemPoolHandle_st {};

namespace cuda_emulation {

class Streams {
 public:
  Streams() { all_.push_back(std::make_unique<CUstream_st>()); }  // the default stream

  cudaStream_t create(bool blocking) {
    all_.push_back(std::make_unique<CUstream_st>());
    all_.back()->blocking = blocking;
    return all_.back().get();
  }
  // Destroyed streams still do what they were asked.
  void destroy(cudaStream_t stream) {
    const auto it = std::find_if(all_.begin(), all_.end(), [&](const auto& s) { return s.get() == stream; });
    if (!(*it)->queue.empty()) orphans_.push_back(std::move(*it));
    all_.erase(it);
  }
  // The stream behind a handle; nullptr when there is none.
  cudaStream_t find(cudaStream_t handle) const {
    if (handle == nullptr) return all_.front().get();
    for (const auto& stream : all_)
      if (stream.get() == handle) return handle;
    return nullptr;
  }

  void add(cudaStream_t stream, Operation operation) {
    if (stream->capture != cudaStreamCaptureStatusNone) return stream->graph.nodes.push_back(std::move(operation));
    if (stream->blocking) {  // the default stream and the others of its kind wait for each other
      const bool is_default = stream == all_.front().get();
      for (std::size_t i = is_default ? 1 : 0; i < (is_default ? all_.size() : 1); ++i)
        if (all_[i]->blocking && !all_[i]->queue.empty()) wait_for(stream, record(all_[i].get()));
    }
    stream->queue.push_back(std::move(operation));
  }

  std::shared_ptr<Recording> record(cudaStream_t stream) {
    auto recording = std::make_shared<Recording>();
    recording->stream = stream;
    recording->time = std::chrono::steady_clock::now();
    recording->done = stream->queue.empty();
    if (!recording->done)
      stream->queue.push_back({NodeKind::other, nullptr, "the record of an event", [recording] {
                                 recording->time = std::chrono::steady_clock::now();
                                 recording->done = true;
                               }});
    return recording;
  }
  void wait_for(cudaStream_t stream, const std::shared_ptr<Recording>& recording) {
    if (!recording->done) stream->queue.push_back({NodeKind::other, nullptr, "a wait for an event", [this, recording] { complete(*recording); }});
  }

  // ---- what runs queued operations ----
  void drain(cudaStream_t stream) {
    const Execution execution;
    while (!stream->queue.empty()) run_first(*stream);
  }
  void complete(const Recording& recording) {
    const Execution execution;
    while (!recording.done) run_first(*recording.stream);
  }
  void drain_all() {
    const Execution execution;
    Random random{schedule().seed};
    for (;;) {
      std::vector<cudaStream_t> busy;
      for (const auto* list : {&all_, &orphans_})
        for (const auto& stream : *list)
          if (!stream->queue.empty()) busy.push_back(stream.get());
      if (busy.empty()) break;
      run_first(*busy[Turns(busy.size(), random)()]);  // in random order, streams take turns operation by operation
    }
    orphans_.clear();
  }
  // Runs nothing, so that whoever forgets to wait sees it; but someone who asks again and again must get an answer in the end.
  bool idle(CUstream_st& stream) {
    constexpr unsigned kPatience = 64;
    if (!stream.queue.empty() && ++stream.unanswered % kPatience == 0) {
      const Execution execution;
      run_first(stream);
    }
    return stream.queue.empty();
  }

  // A capture of this thread in which unsafe calls are forbidden; nullptr: none.
  cudaStream_t forbidding_capture() const {
    for (const auto& stream : all_)
      if (stream->capture != cudaStreamCaptureStatusNone && stream->capture_mode != cudaStreamCaptureModeRelaxed &&
          (stream->capture_mode == cudaStreamCaptureModeGlobal || stream->capture_thread == std::this_thread::get_id()))
        return stream.get();
    return nullptr;
  }

  // The time in which device memory may be touched.
  class Execution {
   public:
    Execution() : outermost_(!here.executing) {
      install_fault_handler();
      here.executing = true;
    }
    ~Execution() {
      if (!outermost_) return;
      device_memory().close_all();
      here.executing = false;
    }
    Execution(const Execution&) = delete;
    Execution& operator=(const Execution&) = delete;

   private:
    bool outermost_;
  };

 private:
  static void run_first(CUstream_st& stream) {
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.unanswered = 0;
    ++counters().operations_run;
    const Here outer = here;
    static const bool check_each = std::getenv("CUDA_EMULATION_CHECK_EACH") != nullptr;
    const std::string name = check_each && operation.name.empty() ? kernel_name(operation.function) : operation.name;
    here.activity = name.c_str();
    operation.run();
    if (check_each) device_memory().close_all();
    here = outer;
  }

  std::vector<std::unique_ptr<CUstream_st>> all_;
  std::vector<std::unique_ptr<CUstream_st>> orphans_;
};

inline Streams& streams() {
  static auto* value = new Streams;
  return *value;
}

// Held by every call of the runtime and of cuBLAS.
inline std::unique_lock<std::recursive_mutex> enter() {
  static auto* mutex = new std::recursive_mutex;
  install_fault_handler();
  return std::unique_lock(*mutex);
}

// The answer to a call that a capture does not allow (it ends the capture), or cudaSuccess.
inline cudaError_t forbid_in_capture(const char* call) {
  const cudaStream_t capturing = streams().forbidding_capture();
  if (capturing == nullptr) return cudaSuccess;
  capturing->capture = cudaStreamCaptureStatusInvalidated;
  return fail(cudaErrorStreamCaptureUnsupported, std::string(call) + " during the capture of a stream");
}

// The stream for an operation, or why there is none.
inline cudaError_t stream_for(cudaStream_t handle, cudaStream_t& stream) {
  stream = streams().find(handle);
  if (stream == nullptr) return fail(cudaErrorInvalidResourceHandle, "no such stream");
  if (stream->capture == cudaStreamCaptureStatusInvalidated) return fail(cudaErrorStreamCaptureInvalidated, "the capture has failed before");
  return cudaSuccess;
}

}  // namespace cuda_emulation
