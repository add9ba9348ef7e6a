// One type for the wrapper that is a host's or a device's bound layer, by the target, and one that
// is a host's or a device's session, by where pieces come.
#pragma once

#include <loadstone/plugin.hpp>
#include <memory>

namespace loadstone::common::cuda {

template <typename Host, typename Device>
class EitherBound {
 public:
  template <typename Config>
  EitherBound(const Config& config, const sdk::Binding& binding) {
    if (binding.target.cuda()) {
      device_ = std::make_unique<Device>(config, binding);
    } else {
      host_ = std::make_unique<Host>(config, binding);
    }
  }
  uint32_t variant(const ls_step& step) const {
    if constexpr (requires(const Host& h) { h.variant(step); }) {
      return device_ ? device_->variant(step) : host_->variant(step);
    } else {
      return 0;
    }
  }
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
    device_ ? device_->sizes(variant, m, out) : host_->sizes(variant, m, out);
  }
  void prepare(const ls_apply& call) const {
    device_ ? device_->prepare(call) : host_->prepare(call);
  }
  void apply(const ls_apply& call) const { device_ ? device_->apply(call) : host_->apply(call); }

 private:
  std::unique_ptr<Host> host_;
  std::unique_ptr<Device> device_;
};

template <typename Host, typename Device>
class EitherSession {
 public:
  template <typename Config>
  EitherSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin) {
    if (begin.raw().place == LS_PLACE_CUDA) {
      device_ = std::make_unique<Device>(config, layer, begin);
    } else {
      host_ = std::make_unique<Host>(config, layer, begin);
    }
  }
  void feed(const sdk::Piece& piece) { device_ ? device_->feed(piece) : host_->feed(piece); }
  void end(const void* stat, uint32_t trouble) {
    if (device_) return device_->end(stat, trouble);
    if constexpr (requires { host_->end(stat, trouble); }) {
      host_->end(stat, trouble);
    } else {
      host_->end();
    }
  }

 private:
  std::unique_ptr<Host> host_;
  std::unique_ptr<Device> device_;
};

}  // namespace loadstone::common::cuda
