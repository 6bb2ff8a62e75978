// The part of the CUDA runtime that the library uses, executed on the CPU with checks a GPU cannot give. See
// tests/cuda_emulation/README.md.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "cuda_emulation/copy.hpp"
#include "cuda_emulation/counters.hpp"
#include "cuda_emulation/device_words.hpp"
#include "cuda_emulation/launch.hpp"
#include "cuda_emulation/memory.hpp"
#include "cuda_emulation/order.hpp"
#include "cuda_emulation/report.hpp"
#include "cuda_emulation/stream.hpp"
#include "cuda_emulation/types.hpp"

#define CUDART_VERSION 13000

// ---- errors ----
inline const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define CUDA_EMULATION_CASE(name, value, text) \
  case name:                                   \
    return #name;
    CUDA_EMULATION_ERRORS(CUDA_EMULATION_CASE)
#undef CUDA_EMULATION_CASE
  }
  return "unrecognized error code";
}
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define CUDA_EMULATION_CASE(name, value, text) \
  case name:                                   \
    return text;
    CUDA_EMULATION_ERRORS(CUDA_EMULATION_CASE)
#undef CUDA_EMULATION_CASE
  }
  return "unrecognized error code";
}
inline cudaError_t cudaPeekAtLastError() { return cuda_emulation::last_error().code; }
inline cudaError_t cudaGetLastError() { return std::exchange(cuda_emulation::last_error().code, cudaSuccess); }

// ---- the device: one like an H100. CUDA_EMULATION_NO_DEVICE=1 takes it away, =driver its driver. ----
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  const char* none = std::getenv("CUDA_EMULATION_NO_DEVICE");
  if (none != nullptr && std::strcmp(none, "driver") == 0)
    return cuda_emulation::fail(cudaErrorInsufficientDriver, "no driver, as asked for");
  if (none != nullptr && std::strcmp(none, "1") == 0) return cuda_emulation::fail(cudaErrorNoDevice, "no device, as asked for");
  *count = 1;
  return cudaSuccess;
}
namespace cuda_emulation {
inline cudaError_t check_device(int device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice, "there is one device, 0");
}
}  // namespace cuda_emulation
inline cudaError_t cudaSetDevice(int device) { return cuda_emulation::check_device(device); }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cuda_emulation::check_device(0);
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = cuda_emulation::check_device(device); error != cudaSuccess) return error;
  *properties = {};
  std::strcpy(properties->name, "CUDA emulation (compute capability 9.0)");
  properties->totalGlobalMem = cuda_emulation::device_memory().capacity;
  properties->sharedMemPerBlock = cuda_emulation::kDefaultShared;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = warpSize;
  properties->maxThreadsPerBlock = static_cast<int>(cuda_emulation::kMaxThreads);
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = 132;
  properties->concurrentKernels = properties->unifiedAddressing = properties->memoryPoolsSupported = 1;
  properties->asyncEngineCount = 3;
  properties->memoryBusWidth = 5120;
  properties->l2CacheSize = 50 << 20;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerMultiprocessor = std::size_t{228} << 10;
  properties->sharedMemPerBlockOptin = cuda_emulation::shared_limit();
  properties->maxBlocksPerMultiProcessor = 32;
  properties->reservedSharedMemPerBlock = 1024;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = properties.memoryPoolsSupported;
      break;
    default:
      return cuda_emulation::fail(cudaErrorInvalidValue, "this attribute is not emulated");
  }
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  const char* none = std::getenv("CUDA_EMULATION_NO_DEVICE");
  *version = none != nullptr && std::strcmp(none, "driver") == 0 ? 0 : CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// ---- memory ----
namespace cuda_emulation {
inline cudaError_t allocate(void** pointer, std::size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const Allocation* a = device_memory().allocate(bytes);
  if (a == nullptr)
    return fail(cudaErrorMemoryAllocation, std::to_string(bytes) + " bytes, with " + std::to_string(live_bytes()) + " in use");
  ++counters().allocations;
  *pointer = a->begin;
  return cudaSuccess;
}
// The allocation that starts at the pointer and has not been freed; nullptr: none.
inline Allocation* owned(void* pointer, const char* call) {
  Allocation* a = device_memory().find(pointer);
  if (a != nullptr && a->begin == pointer && !a->free_pending) return a;
  fail(cudaErrorInvalidValue, std::string(call) + " of " + to_string(pointer) + ", which is not the start of a live allocation" +
                                  device_memory().history(pointer) +
                                  (a != nullptr && a->free_pending ? ": it was given to cudaFreeAsync before" : ""));
  return nullptr;
}
}  // namespace cuda_emulation

inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const auto lock = cuda_emulation::enter();
  *total = cuda_emulation::device_memory().capacity;
  *free = *total - cuda_emulation::live_bytes();
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  const auto lock = cuda_emulation::enter();
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaMalloc"); error != cudaSuccess) return error;
  return cuda_emulation::allocate(pointer, bytes);
}
template <class T>
cudaError_t cudaMalloc(T** pointer, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(pointer), bytes);
}
// Frees at once: what is queued and still uses the memory will fault.
inline cudaError_t cudaFree(void* pointer) {
  const auto lock = cuda_emulation::enter();
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaFree"); error != cudaSuccess) return error;
  cuda_emulation::Allocation* a = cuda_emulation::owned(pointer, "cudaFree");
  if (a == nullptr) return cudaErrorInvalidValue;
  ++cuda_emulation::counters().frees;
  cuda_emulation::device_memory().release(*a);
  return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t handle) {
  const auto lock = cuda_emulation::enter();
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaMallocAsync (memory nodes are not emulated)"); error != cudaSuccess)
    return error;
  return cuda_emulation::allocate(pointer, bytes);
}
inline cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  const auto lock = cuda_emulation::enter();
  if (pointer == nullptr) return cudaSuccess;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaFreeAsync of memory allocated before"); error != cudaSuccess)
    return error;
  cuda_emulation::Allocation* a = cuda_emulation::owned(pointer, "cudaFreeAsync");
  if (a == nullptr) return cudaErrorInvalidValue;
  ++cuda_emulation::counters().frees;
  a->free_pending = true;
  cuda_emulation::streams().add(
      stream, {cuda_emulation::NodeKind::other, nullptr, "cudaFreeAsync", [a] { cuda_emulation::device_memory().release(*a); }});
  return cudaSuccess;
}

inline cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  if (properties == nullptr || properties->allocType != cudaMemAllocationTypePinned ||
      properties->location.type != cudaMemLocationTypeDevice || properties->location.id != 0)
    return cuda_emulation::fail(cudaErrorInvalidValue, "a memory pool that is not one of pinned memory on device 0");
  *pool = new CUmemPoolHandle_st;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void* value) {
  return pool != nullptr && value != nullptr ? cudaSuccess
                                             : cuda_emulation::fail(cudaErrorInvalidValue, "an attribute of no memory pool, or no value");
}
inline cudaError_t cudaMallocFromPoolAsync(void** pointer, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  if (pool == nullptr) return cuda_emulation::fail(cudaErrorInvalidValue, "no memory pool");
  return cudaMallocAsync(pointer, bytes, stream);
}

inline cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  const auto lock = cuda_emulation::enter();
  *pointer = nullptr;
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaHostAlloc"); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  char* memory = static_cast<char*>(
      std::aligned_alloc(cuda_emulation::kPage, (bytes + cuda_emulation::kPage - 1) / cuda_emulation::kPage * cuda_emulation::kPage));
  if (memory == nullptr) return cuda_emulation::fail(cudaErrorMemoryAllocation, std::to_string(bytes) + " bytes of pinned memory");
  std::memset(memory, cuda_emulation::kPoison, bytes);
  ++cuda_emulation::counters().pinned_allocations;
  cuda_emulation::pinned_memory()[memory] = bytes;
  *pointer = memory;
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) { return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault); }
inline cudaError_t cudaFreeHost(void* pointer) {
  const auto lock = cuda_emulation::enter();
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaFreeHost"); error != cudaSuccess) return error;
  if (cuda_emulation::pinned_memory().erase(static_cast<char*>(pointer)) == 0)
    return cuda_emulation::fail(cudaErrorInvalidValue,
                                "cudaFreeHost of " + cuda_emulation::to_string(pointer) + ", which is not the start of pinned memory");
  std::free(pointer);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
  const auto lock = cuda_emulation::enter();
  return cuda_emulation::copy({static_cast<char*>(to), bytes, bytes, 1}, {static_cast<char*>(const_cast<void*>(from)), bytes, bytes, 1},
                              kind, stream, false);
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const auto lock = cuda_emulation::enter();
  return cuda_emulation::copy({static_cast<char*>(to), bytes, bytes, 1}, {static_cast<char*>(const_cast<void*>(from)), bytes, bytes, 1},
                              kind, nullptr, true);
}
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                                     std::size_t height, cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
  const auto lock = cuda_emulation::enter();
  return cuda_emulation::copy({static_cast<char*>(to), to_pitch, width, height},
                              {static_cast<char*>(const_cast<void*>(from)), from_pitch, width, height}, kind, stream, false);
}
inline cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream = nullptr) {
  const auto lock = cuda_emulation::enter();
  return cuda_emulation::set({static_cast<char*>(pointer), bytes, bytes, 1}, value, stream);
}
inline cudaError_t cudaMemset2DAsync(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                                     cudaStream_t stream = nullptr) {
  const auto lock = cuda_emulation::enter();
  return cuda_emulation::set({static_cast<char*>(pointer), pitch, width, height}, value, stream);
}

// ---- streams ----
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const auto lock = cuda_emulation::enter();
  *stream = cuda_emulation::streams().create(flags != cudaStreamNonBlocking);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = cuda_emulation::enter();
  if (stream == nullptr || cuda_emulation::streams().find(stream) == nullptr)
    return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no such stream");
  cuda_emulation::streams().destroy(stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const auto lock = cuda_emulation::enter();
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaStreamSynchronize"); error != cudaSuccess) return error;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  ++cuda_emulation::counters().synchronisations;
  cuda_emulation::streams().drain(stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const auto lock = cuda_emulation::enter();
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaStreamQuery"); error != cudaSuccess) return error;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  return cuda_emulation::streams().idle(*stream) ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaDeviceSynchronize() {
  const auto lock = cuda_emulation::enter();
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaDeviceSynchronize"); error != cudaSuccess) return error;
  ++cuda_emulation::counters().synchronisations;
  cuda_emulation::streams().drain_all();
  return cudaSuccess;
}

// ---- events ----
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{.timed = (flags & cudaEventDisableTiming) == 0, .recording = nullptr};
  return cudaSuccess;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no event");
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle = nullptr) {
  const auto lock = cuda_emulation::enter();
  if (event == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no event");
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  if (stream->capture != cudaStreamCaptureStatusNone)
    event->recording = std::make_shared<cuda_emulation::Recording>(
        cuda_emulation::Recording{.stream = stream, .done = false, .captured = true, .time = {}});
  else
    event->recording = cuda_emulation::streams().record(stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned = cudaEventWaitDefault) {
  const auto lock = cuda_emulation::enter();
  if (event == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no event");
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  if (event->recording == nullptr) return cudaSuccess;
  const bool capturing = stream->capture != cudaStreamCaptureStatusNone;
  if (event->recording->captured) {
    if (event->recording->stream == stream && capturing) return cudaSuccess;  // the stream's own order
    const cudaStream_t origin = cuda_emulation::streams().find(event->recording->stream);
    if (origin == nullptr || origin->capture == cudaStreamCaptureStatusNone)
      return cuda_emulation::fail(cudaErrorCapturedEvent, "the event was last recorded in a capture, which has ended");
    origin->capture = cudaStreamCaptureStatusInvalidated;
    return cuda_emulation::fail(cudaErrorStreamCaptureUnsupported,
                                "a second stream joins the capture: only captures of one stream are emulated");
  }
  if (capturing) {
    stream->capture = cudaStreamCaptureStatusInvalidated;
    return cuda_emulation::fail(cudaErrorStreamCaptureIsolation, "a captured stream waits for an event recorded outside of the capture");
  }
  cuda_emulation::streams().wait_for(stream, event->recording);
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto lock = cuda_emulation::enter();
  if (event == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no event");
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaEventSynchronize"); error != cudaSuccess) return error;
  if (event->recording == nullptr) return cudaSuccess;
  if (event->recording->captured) return cuda_emulation::fail(cudaErrorCapturedEvent, "the event was last recorded in a capture");
  ++cuda_emulation::counters().synchronisations;
  cuda_emulation::streams().complete(*event->recording);
  return cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto lock = cuda_emulation::enter();
  if (event == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no event");
  if (const cudaError_t error = cuda_emulation::forbid_in_capture("cudaEventQuery"); error != cudaSuccess) return error;
  if (event->recording == nullptr) return cudaSuccess;
  if (event->recording->captured) return cuda_emulation::fail(cudaErrorCapturedEvent, "the event was last recorded in a capture");
  if (!event->recording->done) cuda_emulation::streams().idle(*event->recording->stream);
  return event->recording->done ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const auto lock = cuda_emulation::enter();
  if (start == nullptr || end == nullptr || !start->timed || !end->timed || start->recording == nullptr || end->recording == nullptr)
    return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "the time between events that are not there, not timed or not recorded");
  if (!start->recording->done || !end->recording->done) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->recording->time - start->recording->time).count();
  return cudaSuccess;
}

// ---- capture and graphs: one stream, its operations in their order ----
inline cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const auto lock = cuda_emulation::enter();
  const cudaStream_t stream = cuda_emulation::streams().find(handle);
  if (stream == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no such stream");
  if (handle == nullptr) return cuda_emulation::fail(cudaErrorStreamCaptureUnsupported, "the default stream cannot be captured");
  if (stream->capture != cudaStreamCaptureStatusNone) return cuda_emulation::fail(cudaErrorInvalidValue, "the stream is being captured");
  stream->capture = cudaStreamCaptureStatusActive;
  stream->capture_mode = mode;
  stream->capture_thread = std::this_thread::get_id();
  stream->graph.nodes.clear();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const auto lock = cuda_emulation::enter();
  *graph = nullptr;
  const cudaStream_t stream = cuda_emulation::streams().find(handle);
  if (stream == nullptr || stream->capture == cudaStreamCaptureStatusNone)
    return cuda_emulation::fail(cudaErrorStreamCaptureUnmatched, "the stream is not being captured");
  if (stream->capture_mode != cudaStreamCaptureModeRelaxed && stream->capture_thread != std::this_thread::get_id())
    return cuda_emulation::fail(cudaErrorStreamCaptureWrongThread, "another thread began the capture");
  if (std::exchange(stream->capture, cudaStreamCaptureStatusNone) == cudaStreamCaptureStatusInvalidated)
    return cuda_emulation::fail(cudaErrorStreamCaptureInvalidated,
                                "a call during the capture was not allowed: " + cuda_emulation::last_message());
  *graph = new CUgraph_st(std::exchange(stream->graph, {}));
  return cudaSuccess;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const auto lock = cuda_emulation::enter();
  const cudaStream_t stream = cuda_emulation::streams().find(handle);
  if (stream == nullptr) return cuda_emulation::fail(cudaErrorInvalidResourceHandle, "no such stream");
  *status = stream->capture;
  return cudaSuccess;
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (graph == nullptr || count == nullptr) return cuda_emulation::fail(cudaErrorInvalidValue, "no graph, or nowhere to count");
  for (std::size_t i = 0; nodes != nullptr && i < *count; ++i)
    nodes[i] = i < graph->nodes.size() ? reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]) : nullptr;
  *count = graph->nodes.size();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long = 0) {
  if (graph == nullptr) return cuda_emulation::fail(cudaErrorInvalidValue, "no graph");
  *exec = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
  const auto lock = cuda_emulation::enter();
  if (exec == nullptr || graph == nullptr || info == nullptr) return cuda_emulation::fail(cudaErrorInvalidValue, "no graph");
  *info = {};
  if (exec->nodes.size() != graph->nodes.size()) {
    info->result = cudaGraphExecUpdateErrorTopologyChanged;
    return cuda_emulation::fail(cudaErrorGraphExecUpdateFailure, "the number of nodes has changed");
  }
  for (std::size_t i = 0; i < graph->nodes.size(); ++i) {
    const bool kind_differs = exec->nodes[i].kind != graph->nodes[i].kind;
    if (!kind_differs && exec->nodes[i].function == graph->nodes[i].function) continue;
    info->result = kind_differs ? cudaGraphExecUpdateErrorNodeTypeChanged : cudaGraphExecUpdateErrorFunctionChanged;
    info->errorNode = reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]);
    return cuda_emulation::fail(cudaErrorGraphExecUpdateFailure,
                                "node " + std::to_string(i) + " has another " + (kind_differs ? "kind" : "kernel"));
  }
  exec->nodes = graph->nodes;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  const auto lock = cuda_emulation::enter();
  if (exec == nullptr) return cuda_emulation::fail(cudaErrorInvalidValue, "no graph");
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cuda_emulation::stream_for(handle, stream); error != cudaSuccess) return error;
  ++cuda_emulation::counters().graph_launches;
  for (const cuda_emulation::Operation& node : exec->nodes) cuda_emulation::streams().add(stream, node);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
