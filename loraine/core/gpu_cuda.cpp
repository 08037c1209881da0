// The real GPU: a thin skin over CUDA's runtime, which is linked statically, so that a program with it starts where no driver is.
#include <cuda_runtime_api.h>

#include <utility>

#include "loraine/core/error.h"
#include "loraine/core/gpu.h"

namespace loraine {
namespace {

void check_cuda(const char* what, cudaError_t error) {
  if (error != cudaSuccess) throw_gpu_error(what, error);
}

[[noreturn]] void no_gpu(const std::string& what, const std::string& hint) {
  throw Error(ErrorKind::unsupported, "device cuda: " + what, hint + " Or run on the CPU (device: cpu).");
}

GpuCard first_card() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  if (error == cudaErrorInsufficientDriver && driver == 0)
    no_gpu("no NVIDIA driver was found", "Install one for CUDA " + version(runtime) + ".");
  if (error == cudaErrorInsufficientDriver)
    no_gpu("the NVIDIA driver is for CUDA " + version(driver) + ", this build needs " + version(runtime), "Install a newer driver.");
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    no_gpu("the driver shows no GPU", "See whether nvidia-smi lists one, and what CUDA_VISIBLE_DEVICES hides.");
  check_cuda("device cuda", error);
  cudaDeviceProp p;
  check_cuda("device cuda: properties of the card", cudaGetDeviceProperties(&p, 0));
  const int capability = p.major * 10 + p.minor;
  if (capability < 80)
    no_gpu(std::string(p.name) + " is of sm_" + std::to_string(capability) + ", the kernels need sm_80 or later (Ampere)",
           "Use a newer card.");
  check_cuda("device cuda: opening the card", cudaSetDevice(0));
  return {p.name, capability, p.multiProcessorCount, p.totalGlobalMem, false};
}

}  // namespace

struct GpuEvent::State {
  cudaEvent_t event = nullptr;
  State() { check_cuda("event", cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
  State(const State&) = delete;
  ~State() { cudaEventDestroy(event); }
};
struct GpuGraph::State {
  cudaGraphExec_t graph = nullptr;
  State() = default;
  State(const State&) = delete;
  ~State() {
    if (graph) cudaGraphExecDestroy(graph);
  }
};
struct GpuStream::State {
  cudaStream_t stream = nullptr;
};

const GpuCard& open_gpu() {
  static const GpuCard card = first_card();
  return card;
}
size_t free_gpu_bytes() {
  open_gpu();
  size_t unused = 0, all = 0;
  check_cuda("free memory of the GPU", cudaMemGetInfo(&unused, &all));
  return unused;
}

GpuMemory::GpuMemory(size_t bytes, GpuMemoryKind kind) : bytes_(bytes), kind_(kind) {
  if (!bytes) return;
  open_gpu();
  const cudaError_t error = kind == GpuMemoryKind::device ? cudaMalloc(&data_, bytes) : cudaMallocHost(&data_, bytes);
  if (error == cudaSuccess) return;
  const std::string what = std::to_string(bytes >> 20) + " MiB of " + (kind == GpuMemoryKind::device ? "GPU memory" : "pinned memory");
  throw_gpu_error(what.c_str(), error);
}
GpuMemory::~GpuMemory() {
  if (!data_) return;
  if (kind_ == GpuMemoryKind::device) cudaFree(data_);
  else cudaFreeHost(data_);
}
GpuMemory::GpuMemory(GpuMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), kind_(other.kind_) {}
GpuMemory& GpuMemory::operator=(GpuMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(kind_, other.kind_);
  return *this;
}

GpuStream::GpuStream() : state_(std::make_unique<State>()) {
  open_gpu();
  check_cuda("stream", cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking));
}
GpuStream::GpuStream(GpuCosts& costs) : costs_(&costs), dry_(true) {}
GpuStream::~GpuStream() {
  if (!state_) return;
  cudaStreamSynchronize(state_->stream);
  cudaStreamDestroy(state_->stream);
}
void GpuStream::copy(void* to, const void* from, size_t bytes) {
  if (copies(bytes)) check_cuda("copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, state_->stream));
}
void GpuStream::fill(void* at, unsigned char byte, size_t bytes) {
  if (fills(bytes)) check_cuda("fill", cudaMemsetAsync(at, byte, bytes, state_->stream));
}
GpuEvent GpuStream::record() {
  if (dry_) return {};
  GpuEvent event{std::make_shared<GpuEvent::State>()};
  check_cuda("event", cudaEventRecord(event.state->event, state_->stream));
  return event;
}
void GpuStream::wait(const GpuEvent& event) {
  if (event.state && !dry_) check_cuda("wait", cudaStreamWaitEvent(state_->stream, event.state->event));
}
void GpuStream::synchronise() {
  if (waits()) check_cuda("work of the GPU", cudaStreamSynchronize(state_->stream));
}
void GpuStream::begin_capture() { check_cuda("capture", cudaStreamBeginCapture(state_->stream, cudaStreamCaptureModeThreadLocal)); }
GpuGraph GpuStream::end_capture() {
  cudaGraph_t captured = nullptr;
  check_cuda("capture", cudaStreamEndCapture(state_->stream, &captured));
  GpuGraph graph{std::make_shared<GpuGraph::State>()};
  const cudaError_t error = cudaGraphInstantiate(&graph.state->graph, captured, 0);
  cudaGraphDestroy(captured);
  check_cuda("graph", error);
  return graph;
}
void GpuStream::launch(const GpuGraph& graph) {
  if (costs_) ++costs_->graphs;
  if (!dry_) check_cuda("graph", cudaGraphLaunch(graph.state->graph, state_->stream));
}
void* GpuStream::handle() const { return state_->stream; }

void throw_gpu_error(const char* what, int error) {
  const auto code = static_cast<cudaError_t>(error);
  const std::string text = std::string(what) + ": " + cudaGetErrorName(code) + ", " + cudaGetErrorString(code);
  if (code == cudaErrorMemoryAllocation)
    throw Error(ErrorKind::out_of_memory, text, "Close other programs on the GPU, or use smaller batches.");
  throw Error(ErrorKind::device, text);
}

}  // namespace loraine
