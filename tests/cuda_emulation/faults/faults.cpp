// Seeded mistakes, each of which the emulation must catch, and the same programs without them, in which it must find nothing.
//   cuda_emulation_faults NAME          makes the mistake in a child process and shows how it was caught
//   cuda_emulation_faults NAME right    runs the program without it
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

namespace emu = cuda_emulation;

[[noreturn]] void caught(const std::string& what) {
  std::fprintf(stderr, "caught: %s\n", what.c_str());
  std::_Exit(1);
}
void need(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "failed: %s (%s)\n", what, emu::last_message().c_str());
  std::_Exit(2);
}
void ok(cudaError_t status) { need(status == cudaSuccess, cudaGetErrorName(status)); }

template <class... P, class... A>
void launch(unsigned grid, unsigned block, std::size_t shared, cudaStream_t stream, void (*kernel)(P...), A&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  ok(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...));
}

template <class T>
T* device(std::size_t n) {
  T* data = nullptr;
  ok(cudaMalloc(&data, n * sizeof(T)));
  return data;
}
float* device(const std::vector<float>& values) {
  float* data = device<float>(values.size());
  ok(cudaMemcpy(data, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
  return data;
}
std::vector<float> host(const float* data, std::size_t n) {
  std::vector<float> values(n);
  ok(cudaMemcpy(values.data(), data, n * sizeof(float), cudaMemcpyDeviceToHost));
  return values;
}
float* pinned(std::size_t n) {
  void* data = nullptr;
  ok(cudaMallocHost(&data, n * sizeof(float)));
  return static_cast<float*>(data);
}
cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}
__device__ float* shared_floats() { return static_cast<float*>(cudaEmulationSharedMemory()); }

__global__ void fill(float* x, float value) { x[blockIdx.x * blockDim.x + threadIdx.x] = value; }

// ---- barriers ----
__global__ void reduce(const float* x, float* sum, bool fault) {
  float* s = shared_floats();
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) s[threadIdx.x] += s[threadIdx.x + half];
    if (!fault) __syncthreads();
  }
  if (threadIdx.x == 0) *sum = s[0];
}
void missing_syncthreads(bool fault) {
  std::vector<float> numbers(64);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  const float* x = device(numbers);
  float* sum = device<float>(1);
  for (const char* order : {"forward", "reverse", "random:1"}) {
    emu::set_order(order);
    launch(1, 64, 64 * sizeof(float), nullptr, reduce, x, sum, fault);
    const float got = host(sum, 1)[0];
    if (got != 2016.0F) caught("the sum is " + std::to_string(got) + ", not 2016, with threads in the order " + order);
  }
}

__global__ void diverge(bool fault) {
  if (fault && threadIdx.x >= 96) return;
  __syncthreads();
}
void divergent_barrier(bool fault) {
  launch(1, 128, 0, nullptr, diverge, fault);
  ok(cudaDeviceSynchronize());
}

__global__ void two_barriers(bool fault) {
  if (fault && threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
void two_different_barriers(bool fault) {
  launch(1, 128, 0, nullptr, two_barriers, fault);
  ok(cudaDeviceSynchronize());
}

__global__ void half_shuffle(float* out, bool fault) {
  float value = 1;
  if (!fault || threadIdx.x < 16) value = __shfl_xor_sync(0xffffffffU, value, 1);
  __syncthreads();
  out[threadIdx.x] = value;
}
void divergent_shuffle(bool fault) {
  launch(1, 32, 0, nullptr, half_shuffle, device<float>(32), fault);
  ok(cudaDeviceSynchronize());
}

// ---- bounds ----
__global__ void rows_plus_one(const float* in, float* out, int read, int written) {
  const unsigned col = threadIdx.x;
  for (int i = 0; i < written; ++i) out[static_cast<unsigned>(i) * blockDim.x + col] = i < read ? in[static_cast<unsigned>(i) * blockDim.x + col] : 0.0F;
}
void out_of_bounds_write(bool fault) {
  launch(1, 64, 0, nullptr, rows_plus_one, device(std::vector<float>(5 * 64)), device<float>(5 * 64), 5, fault ? 6 : 5);
  ok(cudaDeviceSynchronize());
}
void out_of_bounds_read(bool fault) {
  launch(1, 64, 0, nullptr, rows_plus_one, device(std::vector<float>(5 * 64)), device<float>(6 * 64), fault ? 6 : 5, 6);
  ok(cudaDeviceSynchronize());
}
void small_overrun(bool fault) {  // within the page
  launch(1, fault ? 12 : 10, 0, nullptr, fill, device<float>(10), 1.0F);
  ok(cudaDeviceSynchronize());
}

__global__ void shared_writes(unsigned n) { shared_floats()[n - 1 - threadIdx.x] = 1; }
void shared_overrun(bool fault) {
  launch(1, 32, 32 * sizeof(float), nullptr, shared_writes, fault ? 33U : 32U);
  ok(cudaDeviceSynchronize());
}

__global__ void deep(int depth, float* out) {
  volatile float here[256];
  here[threadIdx.x] = static_cast<float>(depth);
  if (depth > 0) deep(depth - 1, out);
  *out = here[threadIdx.x];
}
void stack_overflow(bool fault) {
  launch(1, 1, 0, nullptr, deep, fault ? 1000 : 10, device<float>(1));
  ok(cudaDeviceSynchronize());
}

__global__ void null_write(float* x) { *x = 1; }
void null_pointer(bool fault) {
  launch(1, 1, 0, nullptr, null_write, fault ? nullptr : device<float>(1));
  ok(cudaDeviceSynchronize());
}

// ---- memory in time ----
void host_dereference(bool fault) {
  const float* x = device(std::vector<float>{1});
  const float value = fault ? *static_cast<const volatile float*>(x) : host(x, 1)[0];
  need(value == 1.0F, "the value");
}

__global__ void add(const float* a, const float* b, float* out) { out[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x]; }
void uninitialised_read(bool fault) {
  float* b = device<float>(8);
  if (!fault) ok(cudaMemsetAsync(b, 0, 8 * sizeof(float)));
  float* out = device<float>(8);
  launch(1, 8, 0, nullptr, add, device(std::vector<float>(8, 1.0F)), b, out);
  if (std::isnan(host(out, 8)[0])) caught("poison has reached the result");
}

void use_after_free(bool fault) {
  const cudaStream_t stream = make_stream();
  void* x = nullptr;
  ok(cudaMallocAsync(&x, 256, stream));
  if (fault) ok(cudaFreeAsync(x, stream));
  launch(1, 64, 0, stream, fill, static_cast<float*>(x), 1.0F);
  if (!fault) ok(cudaFreeAsync(x, stream));
  ok(cudaStreamSynchronize(stream));
}
void free_before_use(bool fault) {  // cudaFree while the kernel is queued
  float* x = device<float>(64);
  launch(1, 64, 0, nullptr, fill, x, 1.0F);
  if (!fault) ok(cudaDeviceSynchronize());
  ok(cudaFree(x));
  ok(cudaDeviceSynchronize());
}
void leak(bool fault) {
  float* x = device<float>(64);
  if (!fault) ok(cudaFree(x));
  emu::report_leaks();
}

// ---- streams ----
void missing_synchronisation(bool fault) {
  const cudaStream_t stream = make_stream();
  const float* x = device(std::vector<float>{1});
  float* seen = pinned(1);
  *seen = 0;
  ok(cudaMemcpyAsync(seen, x, sizeof(float), cudaMemcpyDeviceToHost, stream));
  if (!fault) ok(cudaStreamSynchronize(stream));
  if (*seen != 1.0F) caught("the result is not there yet");
}
void reused_pinned_buffer(bool fault) {
  const cudaStream_t stream = make_stream();
  float* x = device<float>(2);
  float* buffer = pinned(1);
  cudaEvent_t copied = nullptr;
  ok(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
  for (int i = 0; i < 2; ++i) {
    if (!fault) ok(cudaEventSynchronize(copied));
    *buffer = static_cast<float>(i + 1);
    ok(cudaMemcpyAsync(x + i, buffer, sizeof(float), cudaMemcpyHostToDevice, stream));
    ok(cudaEventRecord(copied, stream));
  }
  ok(cudaStreamSynchronize(stream));
  ok(cudaEventDestroy(copied));
  if (host(x, 2)[0] != 1.0F) caught("the first copy has read what was meant for the second");
}
void freed_pinned_buffer(bool fault) {
  const cudaStream_t stream = make_stream();
  float* x = device<float>(1);
  float* buffer = pinned(1);
  *buffer = 1;
  ok(cudaMemcpyAsync(x, buffer, sizeof(float), cudaMemcpyHostToDevice, stream));
  if (!fault) ok(cudaStreamSynchronize(stream));
  ok(cudaFreeHost(buffer));
  ok(cudaStreamSynchronize(stream));
}
void missing_event(bool fault) {
  const cudaStream_t producer = make_stream();
  const cudaStream_t consumer = make_stream();
  float* x = device(std::vector<float>{0});
  float* y = device<float>(1);
  cudaEvent_t event = nullptr;
  ok(cudaEventCreate(&event));
  launch(1, 1, 0, producer, fill, x, 1.0F);
  ok(cudaEventRecord(event, producer));
  if (!fault) ok(cudaStreamWaitEvent(consumer, event));
  ok(cudaMemcpyAsync(y, x, sizeof(float), cudaMemcpyDeviceToDevice, consumer));
  ok(cudaStreamSynchronize(consumer));
  ok(cudaEventDestroy(event));
  if (host(y, 1)[0] != 1.0F) caught("one stream has read what another had not written");
}

// ---- cuBLAS ----
struct Product {
  cublasHandle_t handle = nullptr;
  float one = 1;
  float zero = 0;
  Product() { need(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS, "cublasCreate"); }
  void operator()(int m, int n, int k, const float* a, int lda, const float* b, int ldb, float* c, int ldc) const {
    const cublasStatus_t status = cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a, lda, b, ldb, &zero, c, ldc);
    if (status == CUBLAS_STATUS_INVALID_VALUE) caught(emu::last_message());
    need(status == CUBLAS_STATUS_SUCCESS, "cublasSgemm");
    ok(cudaDeviceSynchronize());
  }
};
void swapped_leading_dimension(bool fault) {  // B is a part of a wider matrix
  Product()(4, 5, 6, device<float>(4 * 6), fault ? 16 : 4, device<float>(16 * 5), fault ? 4 : 16, device<float>(4 * 5), 4);
}
void leading_dimension_of_another(bool fault) {  // large enough for cuBLAS
  Product()(4, 5, 4, device<float>(4 * 4), fault ? 16 : 4, device<float>(16 * 5), fault ? 4 : 16, device<float>(4 * 5), 4);
}
void overlapping_product(bool fault) {
  float* a = device<float>(64);
  Product()(4, 4, 4, a, 4, device<float>(16), 4, fault ? a + 12 : a + 16, 4);
}

const std::map<std::string, void (*)(bool)> kFaults{
    {"missing_syncthreads", missing_syncthreads},
    {"divergent_barrier", divergent_barrier},
    {"two_different_barriers", two_different_barriers},
    {"divergent_shuffle", divergent_shuffle},
    {"out_of_bounds_write", out_of_bounds_write},
    {"out_of_bounds_read", out_of_bounds_read},
    {"small_overrun", small_overrun},
    {"shared_overrun", shared_overrun},
    {"stack_overflow", stack_overflow},
    {"null_pointer", null_pointer},
    {"host_dereference", host_dereference},
    {"uninitialised_read", uninitialised_read},
    {"use_after_free", use_after_free},
    {"free_before_use", free_before_use},
    {"leak", leak},
    {"missing_synchronisation", missing_synchronisation},
    {"reused_pinned_buffer", reused_pinned_buffer},
    {"freed_pinned_buffer", freed_pinned_buffer},
    {"missing_event", missing_event},
    {"swapped_leading_dimension", swapped_leading_dimension},
    {"leading_dimension_of_another", leading_dimension_of_another},
    {"overlapping_product", overlapping_product},
};

}  // namespace

int main(int argc, char** argv) {
  const auto fault = kFaults.find(argc > 1 ? argv[1] : "");
  if (fault == kFaults.end()) {
    for (const auto& [name, function] : kFaults) std::printf("%s\n", name.c_str());
    return 2;
  }
  if (argc > 2 && std::strcmp(argv[2], "right") == 0) {
    fault->second(false);
    return 0;
  }
  const pid_t child = fork();  // the report ends a process
  if (child == 0) {
    fault->second(true);
    std::fprintf(stderr, "nothing was caught\n");
    std::_Exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : 0;
}
