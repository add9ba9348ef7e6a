#include "runtime/replay.hpp"

#include <ATen/ops/empty_like.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

namespace loadstone::runtime {
namespace {

constexpr size_t kShapes = 4;    // of one function that are kept
constexpr size_t kForms = 4;     // of one body
constexpr int kThreadLocal = 1;  // cudaStreamCaptureModeThreadLocal: other threads may allocate

/// at::cuda::CUDAGraph's functions, by their names in the library that set_up_cuda() has opened:
/// programs are not linked with it, so that they start on machines without CUDA.
struct Library {
  using Pool = std::pair<unsigned long long, unsigned long long>;
  void (*construct)(void*, bool);
  void (*destroy)(void*);
  void (*begin)(void*, Pool, int);
  void (*end)(void*);
  void (*replay)(void*);

  bool complete = true;

  Library() {
    find("_ZN2at4cuda9CUDAGraphC1Eb", construct);
    find("_ZN2at4cuda9CUDAGraphD1Ev", destroy);
    find("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode", begin);
    find("_ZN2at4cuda9CUDAGraph11capture_endEv", end);
    find("_ZN2at4cuda9CUDAGraph6replayEv", replay);
  }
  static const Library& get() {
    static const Library one;
    return one;
  }

 private:
  template <typename Function>
  void find(const char* name, Function& out) {
    out = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
    complete = complete && out != nullptr;
  }
};

Error not_recorded(std::string found) {
  return Error{Code::unsupported,
               "kernels are not recorded",
               "",
               "found " + std::move(found) + ", expected work that only queues kernels",
               "",
               {}};
}

std::string first_line(const char* text) {
  const std::string all = text;
  return all.substr(0, all.find('\n'));
}

/// Of LibTorch's allocator, blocks that it holds unused included.
int64_t reserved_nbytes(at::Device device) {
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return stats.reserved_bytes.at(kAll).current;
}

}  // namespace

/// Storage of a CUDAGraph, which is smaller (192 bytes in LibTorch 2.11).
struct Graph::Handle {
  alignas(64) std::array<std::byte, 1024> object{};
  Handle() { Library::get().construct(object.data(), false); }
  ~Handle() { Library::get().destroy(object.data()); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
};

Graph::Graph(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Graph::~Graph() = default;

Result<std::unique_ptr<Graph>> Graph::record(at::Device device, const std::function<void()>& body) {
  if (device.is_cpu()) return not_recorded("the CPU");
  const Library& library = Library::get();
  if (!library.complete) return not_recorded("no CUDAGraph in LibTorch");
  const c10::impl::VirtualGuardImpl gpu(device.type());
  const c10::StreamGuard side(gpu.getStreamFromGlobalPool(device));  // the default one can't record
  const int64_t before = reserved_nbytes(device);
  try {
    auto graph = std::unique_ptr<Graph>(new Graph(std::make_unique<Handle>()));
    void* object = graph->handle_->object.data();
    library.begin(object, {0, 0}, kThreadLocal);
    try {
      body();
    } catch (const std::exception&) {
      try {
        library.end(object);  // the stream is usable again, whatever it says
      } catch (const std::exception&) {
      }
      throw;
    }
    library.end(object);
    graph->nbytes_ = static_cast<uint64_t>(std::max<int64_t>(0, reserved_nbytes(device) - before));
    return graph;
  } catch (const std::exception& error) {
    return not_recorded(first_line(error.what()));
  }
}

void Graph::replay() { Library::get().replay(handle_->object.data()); }

Repeated::Repeated(at::Device device, std::shared_ptr<RunState> state, std::function<void()> body)
    : device_(device), state_(std::move(state)), body_(std::move(body)) {}

bool Repeated::may_record() const {
  return !device_.is_cpu() && state_->recording && !state_->observer;
}

Status Repeated::run_as_it_is() {
  body_();
  return state_->take_failure();
}

Status Repeated::record(Form& form) {
  auto made = Graph::record(device_, body_);
  LS_CHECK(state_->take_failure());  // a body that was left early isn't kept
  if (!made) {
    state_->not_recorded = made.error().text();
    state_->recording = false;
    return run_as_it_is();
  }
  form.graph = std::move(made).value();
  form.graph->replay();
  return {};
}

Status Repeated::run() {
  if (!may_record()) return run_as_it_is();
  LS_CHECK(state_->take_failure());
  LS_TRY(const std::vector<uint64_t> key, state_->forms_now());
  if (!forms_.contains(key) && forms_.size() == kForms) forms_.clear();
  Form& form = forms_[key];
  if (form.graph != nullptr) {
    form.graph->replay();
    return {};
  }
  if (form.warm) return record(form);
  form.warm = true;
  return run_as_it_is();
}

uint64_t Repeated::nbytes() const {
  uint64_t sum = 0;
  for (const auto& [key, form] : forms_) sum += form.graph == nullptr ? 0 : form.graph->nbytes();
  return sum;
}

Result<at::Tensor> RepeatedFunction::operator()(const at::Tensor& x) {
  if (device_.is_cpu() || x.numel() > most_) {
    at::Tensor y = function_(x.to(device_));
    LS_CHECK(state_->take_failure());
    return y;
  }
  const auto found = std::find_if(shapes_.begin(), shapes_.end(), [&](const auto& shape) {
    return shape->x.sizes() == x.sizes() && shape->x.scalar_type() == x.scalar_type();
  });
  if (found != shapes_.end()) {
    std::rotate(shapes_.begin(), found, found + 1);
  } else {
    if (shapes_.size() == kShapes) shapes_.pop_back();
    auto made = std::make_unique<Shape>();
    Shape* shape = made.get();
    shape->x = at::empty_like(x, x.options().device(device_));
    shape->body = std::make_unique<Repeated>(device_, state_,
                                             [this, shape] { shape->y = function_(shape->x); });
    shapes_.insert(shapes_.begin(), std::move(made));
  }
  Shape& shape = *shapes_.front();
  shape.x.copy_(x);
  LS_CHECK(shape.body->run());
  return shape.y;
}

uint64_t RepeatedFunction::nbytes() const {
  uint64_t sum = 0;
  for (const auto& shape : shapes_) sum += shape->body->nbytes();
  return sum;
}

}  // namespace loadstone::runtime
