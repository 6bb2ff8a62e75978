// Copies between pageable host memory and the device that neither wait nor keep the caller's memory: through pinned buffers.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "deltatune/backend/cuda/handle.hpp"

namespace deltatune::detail {

// Host to device. Two pinned halves in turn: one is filled while the copies out of the other run, and is waited for before it is used again.
class UploadStaging {
 public:
  UploadStaging() : memory_(make_pinned(2 * kHalf)) {
    for (CudaEvent& event : copied_) event = make_event();
  }

  void copy(cudaStream_t stream, const void* host, void* device, std::size_t bytes) {
    const char* from = static_cast<const char*>(host);
    char* to = static_cast<char*>(device);
    while (bytes > 0) {
      if (used_ == kHalf) turn(stream);
      const std::size_t part = std::min(bytes, kHalf - used_);
      char* pinned = static_cast<char*>(memory_.get()) + half_ * kHalf + used_;
      std::memcpy(pinned, from, part);
      cuda_check(cudaMemcpyAsync(to, pinned, part, cudaMemcpyHostToDevice, stream), "a copy to the device");
      used_ = std::min(kHalf, (used_ + part + 15) / 16 * 16);
      from += part;
      to += part;
      bytes -= part;
    }
  }

 private:
  static constexpr std::size_t kHalf = std::size_t{1} << 21;

  void turn(cudaStream_t stream) {
    cuda_check(cudaEventRecord(copied_[half_].get(), stream), "cudaEventRecord");
    half_ = 1 - half_;
    used_ = 0;
    cuda_check(cudaEventSynchronize(copied_[half_].get()), "waiting for a copy to the device");  // returns at once where nothing was recorded
  }

  CudaPinned memory_;
  CudaEvent copied_[2];
  std::size_t half_ = 0;
  std::size_t used_ = 0;
};

// Device to host. The numbers are in the caller's memory after deliver(), which follows a wait for the stream.
class DownloadStaging {
 public:
  DownloadStaging() : memory_(make_pinned(kBytes)) {}

  void copy(cudaStream_t stream, const void* device, void* host, std::size_t bytes) {
    const char* from = static_cast<const char*>(device);
    char* to = static_cast<char*>(host);
    while (bytes > 0) {
      if (used_ == kBytes) {
        cuda_check(cudaStreamSynchronize(stream), "waiting for a copy to the host");
        deliver();
      }
      const std::size_t part = std::min(bytes, kBytes - used_);
      char* pinned = static_cast<char*>(memory_.get()) + used_;
      cuda_check(cudaMemcpyAsync(pinned, from, part, cudaMemcpyDeviceToHost, stream), "a copy to the host");
      pending_.push_back({pinned, to, part});
      used_ = std::min(kBytes, (used_ + part + 15) / 16 * 16);
      from += part;
      to += part;
      bytes -= part;
    }
  }

  void deliver() {
    for (const Part& part : pending_) std::memcpy(part.host, part.pinned, part.bytes);
    pending_.clear();
    used_ = 0;
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 22;
  struct Part {
    const char* pinned;
    char* host;
    std::size_t bytes;
  };

  CudaPinned memory_;
  std::vector<Part> pending_;
  std::size_t used_ = 0;
};

}  // namespace deltatune::detail
