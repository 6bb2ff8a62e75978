// A stretch of queued work as one CUDA graph: recorded each time, which costs the host about what queueing costs, and started as a whole, so that
// the device does not wait between kernels.
#pragma once

#include <cuda_runtime.h>

#include "deltatune/backend/cuda/handle.hpp"

namespace deltatune::detail {

class CudaGraphRunner {
 public:
  // Calls work(), which queues on the stream and neither allocates nor waits, and starts what it queued. The executable graph of the last call
  // is used again with new arguments where the work has the same shape.
  template <class Work>
  void run(cudaStream_t stream, const Work& work) {
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t recorded{};
    try {
      work();
    } catch (...) {
      static_cast<void>(cudaStreamEndCapture(stream, &recorded));
      const CudaGraph dropped(recorded);
      static_cast<void>(cudaGetLastError());
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
    const CudaGraph graph(recorded);
    if (executable_) {
      cudaGraphExecUpdateResultInfo result{};
      if (cudaGraphExecUpdate(executable_.get(), graph.get(), &result) != cudaSuccess) {
        static_cast<void>(cudaGetLastError());  // another shape: a graph of its own
        executable_ = CudaGraphExec();
      }
    }
    if (!executable_) {
      cudaGraphExec_t made{};
      cuda_check(cudaGraphInstantiate(&made, graph.get(), 0), "cudaGraphInstantiate");
      executable_ = CudaGraphExec(made);
    }
    cuda_check(cudaGraphLaunch(executable_.get(), stream), "cudaGraphLaunch");
  }

 private:
  CudaGraphExec executable_;
};

}  // namespace deltatune::detail
