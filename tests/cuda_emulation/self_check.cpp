// That the emulation does what CUDA does for programs without mistakes, and answers with CUDA's status where CUDA has one. The mistakes
// that have none are in faults/.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace {

namespace emu = cuda_emulation;

constexpr unsigned kAll = 0xffffffffU;

struct Stream {
  cudaStream_t stream = nullptr;
  explicit Stream(unsigned flags = cudaStreamNonBlocking) { REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess); }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream; }
  void wait() const { REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess); }
};

template <class T>
struct Device {
  T* data = nullptr;
  std::size_t size;
  explicit Device(std::size_t n) : size(n) { REQUIRE(cudaMalloc(&data, n * sizeof(T)) == cudaSuccess); }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    REQUIRE(cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Device() { cudaFree(data); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  std::vector<T> host() const {
    std::vector<T> values(size);
    REQUIRE(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }
};

template <class T>
struct Pinned {
  T* data = nullptr;
  explicit Pinned(std::size_t n) { REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&data), n * sizeof(T)) == cudaSuccess); }
  ~Pinned() { cudaFreeHost(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
};

struct OrderGuard {
  ~OrderGuard() { emu::set_order(emu::Order::forward); }
};

template <class... P, class... A>
cudaError_t launch(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, void (*kernel)(P...), A&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
}

template <class T>
__device__ T* shared() {
  return static_cast<T*>(cudaEmulationSharedMemory());
}

__global__ void add_kernel(float* x, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += value;
}
__global__ void set_kernel(float* x, float value) { *x = value; }
__global__ void empty_kernel() {}

// The sum of each block's part: warps by shuffles, then through shared memory, then all blocks by an atomic.
__global__ void sum_kernel(const float* x, float* of_blocks, int* threads) {
  float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAll, value, distance);
  float* sums = shared<float>();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 32) {
    value = threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0.0F;
    for (unsigned distance = 16; distance > 0; distance /= 2) value += __shfl_down_sync(kAll, value, distance);
  }
  if (threadIdx.x == 0) of_blocks[blockIdx.x] = value;
  atomicAdd(threads, 1);
}

}  // namespace

TEST_CASE("Every thread of every block runs once and knows its place", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(int* count) {
      const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      count[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += 1;
    }
  };
  const OrderGuard guard;
  for (const char* order : {"forward", "reverse", "random:1", "random:2"}) {
    emu::set_order(order);
    const Device<int> count(std::vector<int>(2 * 3 * 4 * 5 * 6 * 7, 0));
    REQUIRE(launch(dim3(2, 3, 4), dim3(5, 6, 7), 0, nullptr, Kernel::run, count.data) == cudaSuccess);
    CHECK(count.host() == std::vector<int>(count.size, 1));
  }
}

TEST_CASE("A right kernel gives the same bits in every order, on one OS thread and on two", "[cuda_emulation]") {
  const OrderGuard guard;
  std::vector<float> x(64 * 256);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0F / static_cast<float>(i + 1);
  const Device<float> input(x);
  std::vector<float> first;
  for (const unsigned workers : {1U, 2U})
    for (const char* order : {"forward", "reverse", "random:1", "random:2", "random:3"}) {
      emu::set_workers(workers);
      emu::set_order(order);
      const Device<float> sums(64);
      const Device<int> threads(std::vector<int>{0});
      REQUIRE(launch(64, 256, 8 * sizeof(float), nullptr, sum_kernel, input.data, sums.data, threads.data) == cudaSuccess);
      if (first.empty()) first = sums.host();
      CHECK(sums.host() == first);
      CHECK(threads.host() == std::vector<int>{64 * 256});
    }
  emu::set_workers(1);
  CHECK(first[0] == Approx(6.1243448F));  // the 256th harmonic number
}

TEST_CASE("Threads take turns in the order asked for", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(int* next, int* turn) { turn[blockIdx.x * blockDim.x + threadIdx.x] = (*next)++; }
  };
  const OrderGuard guard;
  const auto turns = [](const char* order) {
    emu::set_order(order);
    const Device<int> next(std::vector<int>{0});
    const Device<int> turn(6);
    REQUIRE(launch(2, 3, 0, nullptr, Kernel::run, next.data, turn.data) == cudaSuccess);
    return turn.host();
  };
  CHECK(turns("forward") == std::vector<int>{0, 1, 2, 3, 4, 5});
  CHECK(turns("reverse") == std::vector<int>{5, 4, 3, 2, 1, 0});
  std::set<std::vector<int>> seen;
  for (int seed = 0; seed < 20; ++seed) seen.insert(turns(("random:" + std::to_string(seed)).c_str()));
  CHECK(seen.size() > 3);
}

TEST_CASE("Shuffles and votes exchange what CUDA says", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(int* out, double* wide, unsigned* votes) {
      const int lane = static_cast<int>(threadIdx.x);
      int* row = out + lane * 8;
      row[0] = __shfl_sync(kAll, 100 + lane, 35);  // modulo the width
      row[1] = __shfl_sync(kAll, 100 + lane, lane + 1, 8);
      row[2] = __shfl_up_sync(kAll, 100 + lane, 3);
      row[3] = __shfl_up_sync(kAll, 100 + lane, 3, 8);
      row[4] = __shfl_down_sync(kAll, 100 + lane, 3);
      row[5] = __shfl_down_sync(kAll, 100 + lane, 3, 8);
      row[6] = __shfl_xor_sync(kAll, 100 + lane, 5);
      row[7] = lane < 16 ? __shfl_xor_sync(0xffffU, 100 + lane, 1) : __shfl_xor_sync(0xffff0000U, 200 + lane, 2);  // two halves on their own
      wide[lane] = __shfl_xor_sync(kAll, 0.1 * lane, 16);
      if (lane == 0) votes[0] = 0;
      __syncwarp();
      const unsigned odd = __ballot_sync(kAll, lane % 2);
      const int any = __any_sync(kAll, lane == 7);
      const int none = __any_sync(kAll, lane > 40);
      const int all = __all_sync(kAll, lane < 32);
      const int most = __all_sync(kAll, lane != 7);
      if (lane == 31) votes[0] = odd, votes[1] = static_cast<unsigned>(any | none << 1 | all << 2 | most << 3);
    }
  };
  const OrderGuard guard;
  for (const char* order : {"forward", "reverse", "random:5"}) {
    emu::set_order(order);
    const Device<int> out(32 * 8);
    const Device<double> wide(32);
    const Device<unsigned> votes(2);
    REQUIRE(launch(1, 32, 0, nullptr, Kernel::run, out.data, wide.data, votes.data) == cudaSuccess);
    const std::vector<int> rows = out.host();
    const std::vector<double> doubles = wide.host();
    for (int lane = 0; lane < 32; ++lane) {
      const int* row = rows.data() + lane * 8;
      CAPTURE(order, lane);
      CHECK(row[0] == 103);
      CHECK(row[1] == 100 + lane / 8 * 8 + (lane + 1) % 8);
      CHECK(row[2] == 100 + (lane >= 3 ? lane - 3 : lane));
      CHECK(row[3] == 100 + (lane % 8 >= 3 ? lane - 3 : lane));
      CHECK(row[4] == 100 + (lane + 3 < 32 ? lane + 3 : lane));
      CHECK(row[5] == 100 + (lane % 8 + 3 < 8 ? lane + 3 : lane));
      CHECK(row[6] == 100 + (lane ^ 5));
      CHECK(row[7] == (lane < 16 ? 100 + (lane ^ 1) : 200 + (lane ^ 2)));
      CHECK(doubles[static_cast<std::size_t>(lane)] == 0.1 * (lane ^ 16));
    }
    CHECK(votes.host() == std::vector<unsigned>{0xaaaaaaaaU, 0b0101});
  }
}

TEST_CASE("Lanes that have left, or are not there, are not waited for", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(int* out) {
      if (threadIdx.x == 3 || threadIdx.x == 31) return;
      out[threadIdx.x] = __shfl_xor_sync(kAll, static_cast<int>(threadIdx.x), 1);
    }
  };
  const OrderGuard guard;
  for (const char* order : {"forward", "reverse"}) {
    emu::set_order(order);
    const Device<int> out(40);
    REQUIRE(launch(1, 40, 0, nullptr, Kernel::run, out.data) == cudaSuccess);
    const std::vector<int> lanes = out.host();
    CHECK(lanes[2] == -1);  // poison
    CHECK(lanes[4] == 5);
    CHECK(lanes[30] == -1);
    CHECK(lanes[39] == 38);
  }
}

TEST_CASE("Streams do nothing until somebody waits", "[cuda_emulation]") {
  const Stream stream;
  const Stream other;
  const Device<float> x(std::vector<float>{1, 2, 3});
  const Pinned<float> seen(3);
  REQUIRE(launch(1, 32, 0, stream, add_kernel, x.data, 10, 3) == cudaSuccess);  // an int where the kernel has a float
  REQUIRE(cudaMemcpyAsync(seen.data, x.data, 12, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(std::isnan(seen.data[0]));
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  other.wait();  // not the one that was asked
  CHECK(std::isnan(seen.data[0]));
  CHECK(x.host() == std::vector<float>{1, 2, 3});  // a blocking copy does not wait for a non-blocking stream
  stream.wait();
  CHECK(seen.data[0] == 11);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(x.host() == std::vector<float>{11, 12, 13});

  REQUIRE(launch(1, 32, 0, stream, add_kernel, x.data, 1.0F, 3) == cudaSuccess);
  while (cudaStreamQuery(stream) == cudaErrorNotReady) {
  }  // ends
  CHECK(x.host()[0] == 12);
}

TEST_CASE("The default stream and blocking ones wait for each other", "[cuda_emulation]") {
  const Device<float> x(std::vector<float>{1});
  const Stream blocking(cudaStreamDefault);
  REQUIRE(launch(1, 1, 0, blocking, add_kernel, x.data, 1.0F, 1) == cudaSuccess);
  CHECK(x.host()[0] == 2);
  REQUIRE(launch(1, 1, 0, nullptr, add_kernel, x.data, 1.0F, 1) == cudaSuccess);
  REQUIRE(launch(1, 1, 0, blocking, set_kernel, x.data, 7.0F) == cudaSuccess);
  blocking.wait();
  CHECK(x.host()[0] == 7);
}

TEST_CASE("Events order streams, and only as far as they were recorded", "[cuda_emulation]") {
  const Device<float> x(std::vector<float>{1, 1});
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);  // never recorded
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  const Stream producer;
  const Stream consumer;
  REQUIRE(launch(1, 1, 0, producer, set_kernel, x.data, 5.0F) == cudaSuccess);
  REQUIRE(cudaEventRecord(event, producer) == cudaSuccess);
  REQUIRE(launch(1, 1, 0, producer, set_kernel, x.data, 9.0F) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaErrorNotReady);
  REQUIRE(cudaStreamWaitEvent(consumer, event) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(x.data + 1, x.data, 4, cudaMemcpyDefault, consumer) == cudaSuccess);
  consumer.wait();
  CHECK(x.host() == std::vector<float>{5, 5});
  CHECK(cudaEventQuery(event) == cudaSuccess);
  CHECK(cudaStreamQuery(producer) == cudaErrorNotReady);
  producer.wait();
  CHECK(x.host()[0] == 9);
  CHECK(cudaEventDestroy(event) == cudaSuccess);

  cudaEvent_t start = nullptr;
  cudaEvent_t end = nullptr;
  REQUIRE(cudaEventCreate(&start) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  float milliseconds = -1;
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorInvalidResourceHandle);
  REQUIRE(launch(1, 1, 0, producer, set_kernel, x.data, 5.0F) == cudaSuccess);
  REQUIRE(cudaEventRecord(start, producer) == cudaSuccess);
  REQUIRE(launch(1000, 32, 0, producer, empty_kernel) == cudaSuccess);
  REQUIRE(cudaEventRecord(end, producer) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady);
  REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
  REQUIRE(cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess);
  CHECK(milliseconds > 0);
  cudaEventDestroy(start);
  cudaEventDestroy(end);
}

TEST_CASE("A destroyed stream still does what it was asked", "[cuda_emulation]") {
  const Device<float> x(std::vector<float>{1});
  {
    const Stream stream;
    REQUIRE(launch(1, 1, 0, stream, set_kernel, x.data, 3.0F) == cudaSuccess);
  }
  CHECK(x.host()[0] == 1);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(x.host()[0] == 3);
  CHECK(cudaStreamDestroy(reinterpret_cast<cudaStream_t>(&emu::counters())) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("Copies read pageable memory in the call and pinned memory late", "[cuda_emulation]") {
  const Stream stream;
  const Device<int> x(2);
  std::vector<int> pageable{1, 2};
  REQUIRE(cudaMemcpyAsync(x.data, pageable.data(), 8, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable = {7, 7};
  stream.wait();
  CHECK(x.host() == std::vector<int>{1, 2});

  const Pinned<int> pinned(2);
  pinned.data[0] = pinned.data[1] = 3;
  REQUIRE(cudaMemcpyAsync(x.data, pinned.data, 8, cudaMemcpyDefault, stream) == cudaSuccess);
  pinned.data[0] = 8;
  std::vector<int> seen(2);
  REQUIRE(cudaMemcpyAsync(seen.data(), x.data, 8, cudaMemcpyDeviceToHost, stream) == cudaSuccess);  // pageable: complete at return
  CHECK(seen == std::vector<int>{8, 3});
}

TEST_CASE("Rows are copied and set with their pitches", "[cuda_emulation]") {
  const Stream stream;
  const Device<unsigned char> x(std::vector<unsigned char>(20, 9));
  const std::vector<unsigned char> from{1, 2, 0, 3, 4, 0, 5, 6};
  REQUIRE(cudaMemcpy2DAsync(x.data + 1, 5, from.data(), 3, 2, 3, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  REQUIRE(cudaMemset2DAsync(x.data + 4, 10, 0, 1, 2, stream) == cudaSuccess);
  stream.wait();
  CHECK(x.host() == std::vector<unsigned char>{9, 1, 2, 9, 0, 9, 3, 4, 9, 9, 9, 5, 6, 9, 0, 9, 9, 9, 9, 9});
  CHECK(cudaMemcpy2DAsync(x.data, 1, from.data(), 3, 2, 3, cudaMemcpyHostToDevice, stream) == cudaErrorInvalidPitchValue);
  CHECK(cudaMemset2DAsync(x.data, 10, 0, 1, 3, stream) == cudaErrorInvalidValue);  // row 2 starts behind the end
}

TEST_CASE("Copies and sets outside of their memory, or in the wrong direction, are refused", "[cuda_emulation]") {
  const Device<float> x(4);
  const Pinned<float> pinned(4);
  std::vector<float> host(4);
  CHECK(cudaMemcpy(x.data, host.data(), 17, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK_THAT(emu::last_message(), Catch::Contains("goes beyond the allocation of 16 bytes"));
  CHECK(cudaMemcpy(x.data + 1, host.data(), 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(pinned.data + 1, x.data, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x.data, host.data(), 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemcpy(x.data, host.data(), 16, cudaMemcpyDeviceToDevice) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemcpy(host.data(), host.data(), 16, cudaMemcpyHostToDevice) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemcpy(x.data, nullptr, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaMemsetAsync(host.data(), 0, 16) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemsetAsync(x.data, 0, 17) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(std::string(cudaGetErrorName(cudaErrorInvalidValue)) == "cudaErrorInvalidValue");
  CHECK(std::string(cudaGetErrorString(cudaErrorInvalidValue)) == "invalid argument");
}

TEST_CASE("Device memory is aligned, poisoned and accounted for", "[cuda_emulation]") {
  const std::size_t before = emu::live_allocations().size();
  const std::size_t bytes_before = emu::live_bytes();
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{255}, std::size_t{256}, std::size_t{4096}, std::size_t{10000}}) {
    const Device<unsigned char> x(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(x.data) % 256 == 0);
    CHECK(x.host() == std::vector<unsigned char>(bytes, 0xff));
    CHECK(emu::live_bytes() == bytes_before + bytes);
    REQUIRE(emu::live_allocations().size() == before + 1);
  }
  CHECK(emu::live_allocations().size() == before);

  void* pointer = &pointer;
  CHECK(cudaMalloc(&pointer, 0) == cudaSuccess);
  CHECK(pointer == nullptr);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  REQUIRE(cudaMalloc(&pointer, 1000) == cudaSuccess);
  CHECK(cudaFree(static_cast<char*>(pointer) + 256) == cudaErrorInvalidValue);
  CHECK(cudaFree(&pointer) == cudaErrorInvalidValue);
  CHECK(cudaFree(pointer) == cudaSuccess);
  CHECK(cudaFree(pointer) == cudaErrorInvalidValue);
  CHECK_THAT(emu::last_message(), Catch::Contains("it was freed"));
  std::size_t word = 0;
  CHECK(cudaMemcpy(&word, pointer, 8, cudaMemcpyDefault) == cudaErrorInvalidValue);

  const Stream stream;
  REQUIRE(cudaMallocAsync(&pointer, 1000, stream) == cudaSuccess);
  CHECK(cudaFreeAsync(pointer, stream) == cudaSuccess);
  CHECK(emu::live_bytes() == bytes_before + 1000);  // the free is queued
  CHECK(cudaFreeAsync(pointer, stream) == cudaErrorInvalidValue);
  CHECK(cudaFree(pointer) == cudaErrorInvalidValue);
  stream.wait();
  CHECK(emu::live_bytes() == bytes_before);

  REQUIRE(cudaMallocHost(&pointer, 10) == cudaSuccess);
  CHECK(static_cast<unsigned char*>(pointer)[9] == 0xff);
  CHECK(emu::live_allocations().size() == before + 1);
  CHECK(cudaFreeHost(pointer) == cudaSuccess);
  CHECK(cudaFreeHost(pointer) == cudaErrorInvalidValue);

  emu::set_device_memory(bytes_before + 1000);
  CHECK(cudaMalloc(&pointer, 1001) == cudaErrorMemoryAllocation);
  CHECK(pointer == nullptr);
  std::size_t free_bytes = 0;
  std::size_t total = 0;
  REQUIRE(cudaMemGetInfo(&free_bytes, &total) == cudaSuccess);
  CHECK(free_bytes == 1000);
  CHECK(total == bytes_before + 1000);
  emu::set_device_memory(std::size_t{80} << 30);
}

TEST_CASE("Memory pools serve streams", "[cuda_emulation]") {
  cudaMemPoolProps properties{};
  cudaMemPool_t pool = nullptr;
  CHECK(cudaMemPoolCreate(&pool, &properties) == cudaErrorInvalidValue);
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, 0};
  REQUIRE(cudaMemPoolCreate(&pool, &properties) == cudaSuccess);
  unsigned long long keep = ~0ULL;
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep) == cudaSuccess);
  const Stream stream;
  std::vector<void*> pointers(2000);
  for (void*& pointer : pointers) REQUIRE(cudaMallocFromPoolAsync(&pointer, 5000, pool, stream) == cudaSuccess);
  for (void* pointer : pointers) REQUIRE(launch(1, 1, 0, stream, set_kernel, static_cast<float*>(pointer), 1.0F) == cudaSuccess);
  for (void* pointer : pointers) REQUIRE(cudaFreeAsync(pointer, stream) == cudaSuccess);
  stream.wait();
  CHECK(cudaMemPoolDestroy(pool) == cudaSuccess);
}

TEST_CASE("Launches beyond the limits of the device are refused", "[cuda_emulation]") {
  const auto shape = [](dim3 grid, dim3 block, std::size_t bytes = 0) { return launch(grid, block, bytes, nullptr, empty_kernel); };
  CHECK(shape(1, 1024) == cudaSuccess);
  CHECK(shape(1, 1025) == cudaErrorInvalidConfiguration);
  CHECK(shape(1, dim3(32, 33)) == cudaErrorInvalidConfiguration);
  CHECK(shape(1, dim3(1, 1, 64)) == cudaSuccess);
  CHECK(shape(1, dim3(1, 1, 65)) == cudaErrorInvalidConfiguration);
  CHECK(shape(1, 0) == cudaErrorInvalidConfiguration);
  CHECK(shape(0, 1) == cudaErrorInvalidConfiguration);
  CHECK(shape(dim3(1, 65536), 1) == cudaErrorInvalidConfiguration);
  CHECK(shape(dim3(1, 1, 65536), 1) == cudaErrorInvalidConfiguration);
  CHECK(shape(0x80000000U, 1) == cudaErrorInvalidConfiguration);

  CHECK(shape(1, 1, 48 << 10) == cudaSuccess);
  CHECK(shape(1, 1, (48 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(empty_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (227 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(empty_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10) == cudaSuccess);
  CHECK(shape(1, 1, 227 << 10) == cudaSuccess);
  CHECK(launch(1, 1, (48 << 10) + 1, nullptr, set_kernel, nullptr, 0.0F) == cudaErrorInvalidValue);  // raised for the other kernel only
  cudaFuncAttributes attributes{};
  REQUIRE(cudaFuncGetAttributes(&attributes, empty_kernel) == cudaSuccess);
  CHECK(attributes.maxDynamicSharedSizeBytes == 227 << 10);
  int blocks = 0;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty_kernel, 256, 100 << 10) == cudaSuccess);
  CHECK(blocks == 2);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("Kernels are not given addresses of the host", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(float*) {}
  };
  std::vector<float> host(1);
  const Pinned<float> pinned(1);
  CHECK(launch(1, 1, 0, nullptr, Kernel::run, host.data()) == cudaErrorInvalidValue);
  CHECK(launch(1, 1, 0, nullptr, Kernel::run, pinned.data) == cudaSuccess);
  CHECK(launch(1, 1, 0, nullptr, Kernel::run, nullptr) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("Shared memory is fresh in every block", "[cuda_emulation]") {
  struct Kernel {
    static __global__ void run(float* out) {
      float* s = shared<float>();
      out[blockIdx.x] = s[3];
      s[3] = 1;
    }
  };
  const Device<float> out(3);
  REQUIRE(launch(3, 1, 16, nullptr, Kernel::run, out.data) == cudaSuccess);
  for (const float value : out.host()) CHECK(std::isnan(value));
}

TEST_CASE("A capture records, a graph repeats", "[cuda_emulation]") {
  const Stream stream;
  const Device<float> x(std::vector<float>{0});
  const Pinned<float> pinned(2);
  pinned.data[0] = 1;
  const auto capture = [&](auto&& body) {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    body();
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    return graph;
  };
  const auto step = [&](float value) {
    REQUIRE(cudaMemcpyAsync(x.data, pinned.data, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
    REQUIRE(launch(1, 1, 0, stream, add_kernel, x.data, value, 1) == cudaSuccess);
    REQUIRE(cudaMemcpyAsync(pinned.data + 1, x.data, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  };
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = capture([&] {
    step(10);
    CHECK(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
  });
  CHECK(status == cudaStreamCaptureStatusActive);
  std::size_t nodes = 0;
  REQUIRE(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 3);
  stream.wait();
  CHECK(std::isnan(pinned.data[1]));  // nothing ran
  cudaGraphExec_t exec = nullptr;
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  for (const float start : {1.0F, 5.0F}) {
    pinned.data[0] = start;
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    stream.wait();
    CHECK(pinned.data[1] == start + 10);
  }
  cudaGraphDestroy(graph);

  cudaGraphExecUpdateResultInfo info{};
  graph = capture([&] { step(20); });
  REQUIRE(cudaGraphExecUpdate(exec, graph, &info) == cudaSuccess);
  cudaGraphDestroy(graph);
  REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
  stream.wait();
  CHECK(pinned.data[1] == 25);

  const auto update = [&](auto&& body) {
    cudaGraph_t changed = capture(body);
    const cudaError_t error = cudaGraphExecUpdate(exec, changed, &info);
    cudaGraphDestroy(changed);
    CHECK(error == cudaErrorGraphExecUpdateFailure);
    return info.result;
  };
  CHECK(update([&] { launch(1, 1, 0, stream, empty_kernel); }) == cudaGraphExecUpdateErrorTopologyChanged);
  CHECK(update([&] {
          for (int i = 0; i < 3; ++i) launch(1, 1, 0, stream, empty_kernel);
        }) == cudaGraphExecUpdateErrorNodeTypeChanged);
  CHECK(update([&] {
          cudaMemcpyAsync(x.data, pinned.data, 4, cudaMemcpyHostToDevice, stream);
          launch(1, 1, 0, stream, empty_kernel);
          cudaMemcpyAsync(x.data, pinned.data, 4, cudaMemcpyHostToDevice, stream);
        }) == cudaGraphExecUpdateErrorFunctionChanged);
  CHECK(info.errorNode != nullptr);
  cudaGraphExecDestroy(exec);
}

TEST_CASE("What a capture does not allow ends it", "[cuda_emulation]") {
  const Stream stream;
  const Stream other;
  const Device<float> x(1);
  std::vector<float> host(1);
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  void* pointer = nullptr;
  const std::vector<std::function<cudaError_t()>> calls{[&] { return cudaStreamSynchronize(stream); },
                                                        [&] { return cudaDeviceSynchronize(); },
                                                        [&] { return cudaStreamQuery(other); },
                                                        [&] { return cudaEventSynchronize(event); },
                                                        [&] { return cudaMalloc(&pointer, 4); },
                                                        [&] { return cudaMallocAsync(&pointer, 4, stream); },
                                                        [&] { return cudaFree(x.data); },
                                                        [&] { return cudaFreeAsync(x.data, stream); },
                                                        [&] { return cudaMallocHost(&pointer, 4); },
                                                        [&] { return cudaMemcpy(x.data, host.data(), 4, cudaMemcpyHostToDevice); },
                                                        [&] { return cudaMemcpyAsync(x.data, host.data(), 4, cudaMemcpyHostToDevice, stream); },
                                                        [&] { return cudaMemcpyAsync(host.data(), x.data, 4, cudaMemcpyDeviceToHost, stream); },
                                                        [&] { return cudaEventRecord(event, stream), cudaStreamWaitEvent(other, event); }};
  for (std::size_t i = 0; i < calls.size(); ++i) {
    CAPTURE(i);
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    CHECK(calls[i]() == cudaErrorStreamCaptureUnsupported);
    CHECK(launch(1, 1, 0, stream, empty_kernel) == cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  }
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureUnmatched);
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal) == cudaErrorStreamCaptureUnsupported);
  cudaEventDestroy(event);
}

TEST_CASE("The device looks like an H100 and can be taken away", "[cuda_emulation]") {
  cudaDeviceProp properties{};
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(properties.major == 9);
  CHECK(properties.multiProcessorCount == 132);
  CHECK(properties.sharedMemPerBlockOptin == 227 << 10);
  int value = 0;
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  CHECK(value == 132);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  int count = -1;
  setenv("CUDA_EMULATION_NO_DEVICE", "1", 1);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  cublasHandle_t handle = nullptr;
  CHECK(cublasCreate(&handle) == CUBLAS_STATUS_NOT_INITIALIZED);
  setenv("CUDA_EMULATION_NO_DEVICE", "driver", 1);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  unsetenv("CUDA_EMULATION_NO_DEVICE");
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
}

TEST_CASE("Launches and calls are counted, kernels have names", "[cuda_emulation]") {
  const Device<float> x(std::vector<float>{1});
  emu::reset_counters();
  emu::record_launches(true);
  REQUIRE(launch(dim3(2, 3), 64, 128, nullptr, add_kernel, x.data, 1.0F, 1) == cudaSuccess);
  CHECK(emu::counters().operations_run == 0);
  x.host();
  REQUIRE(emu::launches().size() == 1);
  CHECK_THAT(emu::launches()[0].name(), Catch::Contains("add_kernel(float*, float, int)"));
  CHECK(emu::launches()[0].grid.y == 3);
  CHECK(emu::launches()[0].block.x == 64);
  CHECK(emu::launches()[0].shared_bytes == 128);
  CHECK(emu::counters().kernels == 1);
  CHECK(emu::counters().copies_to_host == 1);
  CHECK(emu::counters().copies_to_device == 0);
  CHECK(emu::counters().synchronisations == 1);
  CHECK(emu::counters().operations_run == 2);
  emu::record_launches(false);
}

// ---- cuBLAS ----
namespace {

struct Cublas {
  cublasHandle_t handle = nullptr;
  Cublas() { REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
  ~Cublas() { cublasDestroy(handle); }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;
  operator cublasHandle_t() const { return handle; }
};

const float kOne = 1;
const float kZero = 0;

// Bits of values that bf16, fp16 and TF32 hold exactly.
std::vector<float> small_numbers(std::size_t n, unsigned seed) {
  std::vector<float> values(n);
  for (float& value : values) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<float>(static_cast<int>(seed >> 24) - 128) / 64.0F;
  }
  return values;
}
std::vector<std::uint16_t> as_bits(const std::vector<float>& values, cudaDataType_t type) {
  std::vector<std::uint16_t> bits(values.size());
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = type == CUDA_R_16BF ? emu::to_bf16(values[i]) : emu::to_f16(values[i]);
  return bits;
}
std::vector<float> as_floats(const std::vector<std::uint16_t>& bits, cudaDataType_t type) {
  std::vector<float> values(bits.size());
  for (std::size_t i = 0; i < bits.size(); ++i) values[i] = type == CUDA_R_16BF ? emu::from_bf16(bits[i]) : emu::from_f16(bits[i]);
  return values;
}

}  // namespace

TEST_CASE("Products of matrices are those of the definition", "[cuda_emulation]") {
  const Cublas cublas;
  for (const auto op_a : {CUBLAS_OP_N, CUBLAS_OP_T})
    for (const auto op_b : {CUBLAS_OP_N, CUBLAS_OP_T})
      for (const auto& [m, n, k] : {std::tuple(1, 1, 1), std::tuple(5, 3, 7), std::tuple(16, 4, 8), std::tuple(37, 21, 65), std::tuple(8, 70, 0)})
        for (const int pad : {0, 3})
          for (const auto& [alpha, beta] : {std::pair(1.0F, 0.0F), std::pair(0.5F, 1.0F), std::pair(-2.0F, 0.25F), std::pair(0.0F, 0.5F)})
            for (const auto& [type, type_c] : {std::pair(CUDA_R_32F, CUDA_R_32F), std::pair(CUDA_R_16BF, CUDA_R_32F), std::pair(CUDA_R_16BF, CUDA_R_16BF),
                                               std::pair(CUDA_R_16F, CUDA_R_32F), std::pair(CUDA_R_16F, CUDA_R_16F)}) {
              CAPTURE(op_a, op_b, m, n, k, pad, alpha, beta, type, type_c);
              const int batch = 2;
              const auto stored = [](cublasOperation_t op, int rows, int cols) { return op == CUBLAS_OP_N ? std::pair(rows, cols) : std::pair(cols, rows); };
              const auto [rows_a, cols_a] = stored(op_a, m, k);
              const auto [rows_b, cols_b] = stored(op_b, k, n);
              const int lda = std::max(1, rows_a) + pad;
              const int ldb = std::max(1, rows_b) + pad;
              const int ldc = m + pad;
              const long long stride_a = lda * cols_a + pad;
              const long long stride_b = ldb * cols_b + pad;
              const long long stride_c = ldc * n + pad;
              const std::vector<float> a = small_numbers(static_cast<std::size_t>(batch * stride_a + 1), 1);
              const std::vector<float> b = small_numbers(static_cast<std::size_t>(batch * stride_b + 1), 2);
              std::vector<float> c = small_numbers(static_cast<std::size_t>(batch * stride_c), 3);
              if (beta == 0) c.assign(c.size(), std::numeric_limits<float>::quiet_NaN());  // must not be read

              std::vector<float> expected = c;
              for (int i = 0; i < batch; ++i)
                for (int col = 0; col < n; ++col)
                  for (int row = 0; row < m; ++row) {
                    double sum = 0;
                    for (int l = 0; l < k; ++l) {
                      const long long at_a = i * stride_a + (op_a == CUBLAS_OP_N ? row + l * lda : l + row * lda);
                      const long long at_b = i * stride_b + (op_b == CUBLAS_OP_N ? l + col * ldb : col + l * ldb);
                      sum += static_cast<double>(a[static_cast<std::size_t>(at_a)]) * static_cast<double>(b[static_cast<std::size_t>(at_b)]);
                    }
                    float& at = expected[static_cast<std::size_t>(i * stride_c + col * ldc + row)];
                    at = static_cast<float>(static_cast<double>(alpha) * sum) + (beta == 0 ? 0.0F : beta * at);
                    if (type_c != CUDA_R_32F) at = as_floats(as_bits({at}, type_c), type_c)[0];
                  }

              const auto product = [&](const void* on_a, const void* on_b, void* on_c) {
                return cublasGemmStridedBatchedEx(cublas, op_a, op_b, m, n, k, &alpha, on_a, type, lda, stride_a, on_b, type, ldb, stride_b, &beta, on_c,
                                                  type_c, ldc, stride_c, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
              };
              std::vector<float> got;
              if (type == CUDA_R_32F) {
                const Device<float> on_a(a);
                const Device<float> on_b(b);
                const Device<float> on_c(c);
                REQUIRE(product(on_a.data, on_b.data, on_c.data) == CUBLAS_STATUS_SUCCESS);
                got = on_c.host();
              } else {
                const Device<std::uint16_t> on_a(as_bits(a, type));
                const Device<std::uint16_t> on_b(as_bits(b, type));
                if (type_c == CUDA_R_32F) {
                  const Device<float> on_c(c);
                  REQUIRE(product(on_a.data, on_b.data, on_c.data) == CUBLAS_STATUS_SUCCESS);
                  got = on_c.host();
                } else {
                  const Device<std::uint16_t> on_c(as_bits(c, type_c));
                  REQUIRE(product(on_a.data, on_b.data, on_c.data) == CUBLAS_STATUS_SUCCESS);
                  got = as_floats(on_c.host(), type_c);
                }
              }
              bool same = true;
              for (std::size_t i = 0; i < got.size(); ++i)  // sums of these numbers are exact in float32
                same = same && (got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i])));
              CHECK(same);
            }
  emu::clear_gemm_calls();
}

TEST_CASE("TF32 rounds the inputs to ten bits, where it was asked for", "[cuda_emulation]") {
  const Cublas cublas;
  const Device<float> a(std::vector<float>{1.0F + 0x1p-11F + 0x1p-20F});
  const Device<float> b(std::vector<float>{1});
  const Device<float> c(1);
  const auto product = [&](cublasComputeType_t compute) {
    REQUIRE(cublasGemmEx(cublas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &kOne, a.data, CUDA_R_32F, 1, b.data, CUDA_R_32F, 1, &kZero, c.data, CUDA_R_32F, 1, compute,
                         CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
    return c.host()[0];
  };
  CHECK(product(CUBLAS_COMPUTE_32F) == 1.0F + 0x1p-11F + 0x1p-20F);
  CHECK(product(CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0F + 0x1p-10F);
  REQUIRE(cublasSetMathMode(cublas, CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_STATUS_SUCCESS);
  CHECK(product(CUBLAS_COMPUTE_32F) == 1.0F + 0x1p-10F);
  CHECK(product(CUBLAS_COMPUTE_32F_PEDANTIC) == 1.0F + 0x1p-11F + 0x1p-20F);
}

TEST_CASE("Halves round to the nearest, ties to even, at the ends of their range too", "[cuda_emulation]") {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if ((bits & 0x7c00U) != 0x7c00U || (bits & 0x3ffU) == 0) CHECK(emu::to_f16(emu::from_f16(half)) == half);
    if ((bits & 0x7f80U) != 0x7f80U || (bits & 0x7fU) == 0) CHECK(emu::to_bf16(emu::from_bf16(half)) == half);
  }
  CHECK(emu::from_f16(0x0001) == 0x1p-24F);
  CHECK(emu::from_f16(0x3c00) == 1.0F);
  CHECK(emu::to_f16(65519.0F) == 0x7bff);
  CHECK(emu::to_f16(65520.0F) == 0x7c00);
  CHECK(emu::to_f16(1.0F + 0x1p-11F) == 0x3c00);
  CHECK(emu::to_f16(1.0F + 0x3p-11F) == 0x3c02);
  CHECK(emu::to_bf16(1.0F + 0x1p-8F) == 0x3f80);
  CHECK(emu::to_bf16(1.0F + 0x3p-8F) == 0x3f82);
  CHECK(std::isnan(emu::from_f16(emu::to_f16(std::nanf("")))));
  CHECK(std::isnan(emu::from_bf16(emu::to_bf16(std::nanf("")))));
}

TEST_CASE("cuBLAS refuses what it documents", "[cuda_emulation]") {
  const Cublas cublas;
  const Device<float> a(64);
  const Device<float> b(64);
  const Device<float> c(64);
  const auto product = [&](cublasHandle_t handle, int m, int n, int k, int lda, int ldb, int ldc, const float* alpha = &kOne, float* to = nullptr) {
    return cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, m, n, k, alpha, a.data, lda, b.data, ldb, &kZero, to != nullptr ? to : c.data, ldc);
  };
  CHECK(product(cublas, 4, 5, 6, 4, 5, 4) == CUBLAS_STATUS_SUCCESS);
  CHECK(product(cublas, -4, 5, 6, 4, 5, 4) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(cublas, 4, 5, 6, 3, 5, 4) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(cublas, 4, 5, 6, 4, 4, 4) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(cublas, 4, 5, 6, 4, 5, 3) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(cublas, 0, 5, 6, 0, 5, 1) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(cublas, 0, 5, 6, 1, 5, 1) == CUBLAS_STATUS_SUCCESS);
  CHECK(product(cublas, 4, 5, 6, 4, 5, 4, nullptr) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product(nullptr, 4, 5, 6, 4, 5, 4) == CUBLAS_STATUS_NOT_INITIALIZED);
  const auto types = [&](cudaDataType_t type_a, cudaDataType_t type_b, cudaDataType_t type_c, cublasComputeType_t compute) {
    return cublasGemmEx(cublas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &kOne, a.data, type_a, 1, b.data, type_b, 1, &kZero, c.data, type_c, 1, compute,
                        CUBLAS_GEMM_DEFAULT);
  };
  CHECK(types(CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(types(CUDA_R_16BF, CUDA_R_16BF, CUDA_R_16F, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(types(CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(types(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_64F) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(std::string(cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)) == "CUBLAS_STATUS_NOT_SUPPORTED");
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("cuBLAS uses its stream, its pointer mode and a workspace in captures, and keeps a record", "[cuda_emulation]") {
  const Stream stream;
  const Cublas cublas;
  REQUIRE(cublasSetStream(cublas, stream) == CUBLAS_STATUS_SUCCESS);
  const Device<float> a(std::vector<float>{2, 3});
  const Device<float> c(std::vector<float>{1, 1});
  const Device<float> scalars(std::vector<float>{10, 1});
  emu::clear_gemm_calls();
  float alpha = 1;
  REQUIRE(cublasSgemm(cublas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &alpha, a.data, 1, a.data + 1, 1, &kZero, c.data, 1) == CUBLAS_STATUS_SUCCESS);
  alpha = 100;  // was read in the call
  CHECK(c.host()[0] == 1);
  stream.wait();
  CHECK(c.host()[0] == 6);
  REQUIRE(cublasSetPointerMode(cublas, CUBLAS_POINTER_MODE_DEVICE) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSgemmStridedBatched(cublas, CUBLAS_OP_N, CUBLAS_OP_T, 1, 1, 1, scalars.data, a.data, 1, 1, a.data, 1, 1, scalars.data + 1, c.data, 1, 1, 2) ==
          CUBLAS_STATUS_SUCCESS);
  stream.wait();
  CHECK(c.host() == std::vector<float>{46, 91});
  REQUIRE(emu::gemm_calls().size() == 2);
  CHECK(emu::gemm_calls()[0].beta_is_zero);
  CHECK(emu::gemm_calls()[1].op_b == CUBLAS_OP_T);
  CHECK(emu::gemm_calls()[1].batch == 2);
  CHECK(emu::gemm_calls()[1].function == "cublasSgemmStridedBatched");

  const auto captured = [&] {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    const cublasStatus_t status = cublasSgemm(cublas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, scalars.data, a.data, 1, a.data, 1, scalars.data + 1, c.data, 1);
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream, &graph);
    cudaGraphDestroy(graph);
    return status;
  };
  CHECK(captured() == CUBLAS_STATUS_ALLOC_FAILED);
  const Device<char> workspace(4096);
  CHECK(cublasSetWorkspace(cublas, workspace.data, 4097) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(cublasSetWorkspace(cublas, workspace.data, 4096) == CUBLAS_STATUS_SUCCESS);
  CHECK(captured() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSetStream(cublas, stream) == CUBLAS_STATUS_SUCCESS);  // forgets the workspace
  CHECK(captured() == CUBLAS_STATUS_ALLOC_FAILED);
}

TEST_CASE("A product may write beside what it reads, in the same rows of memory", "[cuda_emulation]") {
  const Cublas cublas;
  std::vector<float> rows(6 * 8, 0);  // column-major 6 x 8: rows 0 to 3 are read, 4 and 5 written
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  const Device<float> buffer(rows);
  const Device<float> down(std::vector<float>{1, 0, 0, 0, 0, 0, 0, 1});  // 4 x 2
  REQUIRE(cublasSgemm(cublas, CUBLAS_OP_T, CUBLAS_OP_N, 2, 8, 4, &kOne, down.data, 4, buffer.data, 6, &kZero, buffer.data + 4, 6) == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> got = buffer.host();
  for (std::size_t j = 0; j < 8; ++j) {
    CHECK(got[j * 6 + 4] == got[j * 6]);
    CHECK(got[j * 6 + 5] == got[j * 6 + 3]);
  }
}
