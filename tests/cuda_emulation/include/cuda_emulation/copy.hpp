// Copies and fills, of rows of bytes.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_emulation/memory.hpp"
#include "cuda_emulation/stream.hpp"

namespace cuda_emulation {

struct Rows {
  char* data;
  std::size_t pitch;
  std::size_t width;
  std::size_t height;
  std::size_t bytes() const { return width == 0 || height == 0 ? 0 : (height - 1) * pitch + width; }
};

inline bool is_device(const Rows& rows) { return device_memory().holds(rows.data); }

// Whether the rows are within one allocation of device or pinned memory; pageable memory is not known.
inline cudaError_t check_rows(const Rows& rows, bool device, const char* what) {
  if (rows.width > rows.pitch && rows.height > 1) return fail(cudaErrorInvalidPitchValue, std::string(what) + ": rows are wider than their pitch");
  if (rows.bytes() == 0) return cudaSuccess;
  if (rows.data == nullptr) return fail(cudaErrorInvalidValue, std::string(what) + " is null");
  if (is_device(rows) != device)
    return fail(cudaErrorInvalidMemcpyDirection,
                std::string(what) + (device ? " is not device memory" : " is device memory") + ", but the kind of the copy says so");
  if (device) {
    const Allocation* a = device_memory().find(rows.data);
    if (a == nullptr) return fail(cudaErrorInvalidValue, std::string(what) + " is not in a live allocation" + device_memory().history(rows.data));
    if (a->free_pending) return fail(cudaErrorInvalidValue, std::string(what) + " was given to cudaFreeAsync before");
    if (rows.data < a->begin || rows.data + rows.bytes() > a->end()) return fail(cudaErrorInvalidValue, std::string(what) + " goes beyond " + describe(*a));
  } else if (const std::size_t pinned = pinned_bytes(rows.data); pinned > 0 && rows.bytes() > pinned) {
    return fail(cudaErrorInvalidValue, std::string(what) + " goes beyond its pinned allocation");
  }
  return cudaSuccess;
}

// The same when the operation runs, when a mistake is one of order.
inline void need_rows(const Rows& rows, bool device, bool pinned, const char* what) {
  if (rows.bytes() == 0) return;
  if (device) device_memory().need(rows.data, rows.bytes(), what);
  if (pinned && pinned_bytes(rows.data) < rows.bytes()) die(std::string(what) + " was pinned memory that is freed by now");
}

inline void copy_rows(const Rows& to, const Rows& from) {
  if (to.width == 0) return;
  for (std::size_t i = 0; i < to.height; ++i) std::memmove(to.data + i * to.pitch, from.data + i * from.pitch, to.width);
}

// Host memory that may change or go after the call is read in the call; a pageable target is filled when the call returns.
inline cudaError_t copy(const Rows& to, const Rows& from, cudaMemcpyKind kind, cudaStream_t handle, bool blocking) {
  if (blocking)
    if (const cudaError_t error = forbid_in_capture("cudaMemcpy"); error != cudaSuccess) return error;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = stream_for(handle, stream); error != cudaSuccess) return error;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return fail(cudaErrorInvalidMemcpyDirection, "no such kind of copy");
  const bool to_device = kind == cudaMemcpyDefault ? is_device(to) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDefault ? is_device(from) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (const cudaError_t error = check_rows(to, to_device, "the target of the copy"); error != cudaSuccess) return error;
  if (const cudaError_t error = check_rows(from, from_device, "the source of the copy"); error != cudaSuccess) return error;

  Counters& count = counters();
  ++(to_device ? from_device ? count.copies_on_device : count.copies_to_device : count.copies_to_host);
  const bool to_pinned = !to_device && pinned_bytes(to.data) > 0;
  const bool from_pinned = !from_device && pinned_bytes(from.data) > 0;
  const bool late = (to_device || to_pinned) && !blocking;
  const bool stage = !from_device && !from_pinned && late;
  if (stream->capture != cudaStreamCaptureStatusNone && (!late || stage)) {
    stream->capture = cudaStreamCaptureStatusInvalidated;
    return fail(cudaErrorStreamCaptureUnsupported, "a copy from or to pageable host memory during a capture");
  }
  std::shared_ptr<std::vector<char>> staged;
  Rows source = from;
  if (stage) {
    staged = std::make_shared<std::vector<char>>(from.width * from.height);
    source = {staged->data(), from.width, from.width, from.height};
    copy_rows(source, from);
  }
  streams().add(stream, {NodeKind::copy, nullptr, "cudaMemcpy", [=] {
                           static_cast<void>(staged);
                           need_rows(to, to_device, to_pinned, "the target of a copy");
                           need_rows(source, from_device, from_pinned, "the source of a copy");
                           copy_rows(to, source);
                         }});
  if (!late) {
    if (blocking) ++count.synchronisations;
    streams().drain(stream);
  }
  return cudaSuccess;
}

inline cudaError_t set(const Rows& rows, int value, cudaStream_t handle) {
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = stream_for(handle, stream); error != cudaSuccess) return error;
  if (const cudaError_t error = check_rows(rows, true, "the memory to set"); error != cudaSuccess) return error;
  ++counters().sets;
  streams().add(stream, {NodeKind::set, nullptr, "cudaMemset", [=] {
                           need_rows(rows, true, false, "the memory to set");
                           for (std::size_t i = 0; i < rows.height; ++i) std::memset(rows.data + i * rows.pitch, value, rows.width);
                         }});
  return cudaSuccess;
}

}  // namespace cuda_emulation
