#include <cmath>

#include "base/parallel.hpp"
#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

const char* const kNoSample = "quantizes none of the kit's float layers";

Status same_bytes(const Sample& sample, const Produced& one, const Produced& other,
                  const char* how) {
  for (size_t i = 0; i < one.stored.size(); ++i) {
    const auto a = one.stored[i].bytes(), b = other.stored[i].bytes();
    for (size_t at = 0; at < a.size(); ++at) {
      if (a[at] == b[at]) continue;
      return sample.failed(std::string(how) + ": found stored tensor \"" +
                           sample.answer.stored_names[i] + "\" different from byte " +
                           std::to_string(at) + " of " + std::to_string(a.size()));
    }
  }
  return {};
}

Result<std::string> done(const Context& context) {
  return std::string(context.cases == 0 ? kNoSample : "");
}

}  // namespace

Result<std::string> point_bytes(Context& context) {
  Status ran = for_each_sample(context, ordinary_recipes(), [](const Sample& sample) -> Status {
    // Whatever lay in the buffers and the scratch before must not matter.
    Feeding feeding;
    LS_TRY(const Produced one, produce(sample.config, sample.view, sample.answer, feeding));
    feeding.fill = 0x31;
    LS_TRY(const Produced other, produce(sample.config, sample.view, sample.answer, feeding));
    return same_bytes(sample, one, other, "buffers filled otherwise");
  });
  if (!ran.ok()) return std::move(ran).error();
  return done(context);
}

Result<std::string> point_split(Context& context) {
  uint64_t seed = context.random().next();
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced whole, produce(sample.config, sample.view, sample.answer));
    Feeding granules;
    granules.cut = Cut::granules;
    granules.threads = 2;
    granules.seed = ++seed;
    LS_TRY(const Produced fine, produce(sample.config, sample.view, sample.answer, granules));
    LS_CHECK(same_bytes(sample, whole, fine, "fed by granules on two threads"));
    for (int round = 0; round < 2; ++round) {
      Feeding random;
      random.cut = Cut::random;
      random.threads = round == 0 ? 2 : 1;
      random.awkward = true;
      random.by_group = round == 0;
      random.fill = 0x5A;
      random.seed = ++seed;
      LS_TRY(const Produced cut, produce(sample.config, sample.view, sample.answer, random));
      LS_CHECK(same_bytes(sample, whole, cut, "fed in random pieces"));
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return done(context);
}

Result<std::string> point_threads(Context& context) {
  Status ran = for_each_sample(context, ordinary_recipes(), [](const Sample& sample) -> Status {
    plugin::set_host_threads(nullptr);
    LS_TRY(const Produced alone, produce(sample.config, sample.view, sample.answer));
    for (const unsigned threads : {2u, 5u}) {
      ThreadPool pool(threads);
      plugin::set_host_threads(&pool);
      auto many = produce(sample.config, sample.view, sample.answer);
      plugin::set_host_threads(nullptr);
      LS_TRY(const Produced made, std::move(many));
      LS_CHECK(same_bytes(sample, alone, made, "made on more threads"));
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return done(context);
}

Result<std::string> point_hostile(Context& context) {
  constexpr uint32_t kLinear = LS_KIND_LINEAR;
  const Recipe recipes[] = {
      {kLinear, Layout::single, 24, 128, LS_DTYPE_BF16, Content::nan},
      {kLinear, Layout::fused, 24, 128, LS_DTYPE_F32, Content::infinity},
      {kLinear, Layout::single, 24, 128, LS_DTYPE_F16, Content::infinity},
      {kLinear, Layout::single, 24, 128, LS_DTYPE_F32, Content::nan},
      {kLinear, Layout::single, 24, 128, LS_DTYPE_BF16, Content::zeros},
      {kLinear, Layout::single, 24, 128, LS_DTYPE_F32, Content::tiny},
      {kLinear, Layout::single, 256, 512, LS_DTYPE_BF16, Content::nan},
  };
  Status ran = for_each_sample(
      context, recipes,
      [](const Sample& sample) -> Status {
        auto made = produce(sample.config, sample.view, sample.answer);
        bool finite = true, zero = true;
        for (const float value : sample.layer.truth) {
          finite = finite && std::isfinite(value);
          zero = zero && value == 0;
        }
        if (!made.ok()) {
          if (!finite && made.error().code == Code::invalid_checkpoint) return {};
          return std::move(made).error();
        }
        if (sample.config.method().table().dequantize == nullptr) return {};
        LS_TRY(const std::vector<float> weight,
               dequantize_all(sample.config, sample.view, sample.answer, *made));
        for (size_t i = 0; i < weight.size(); ++i) {
          if (!std::isfinite(sample.layer.truth[i]) && std::isfinite(weight[i])) {
            return sample.failed("found element " + std::to_string(i) +
                                 " finite where the weight isn't, expected a refusal");
          }
          if (finite && !std::isfinite(weight[i])) {
            return sample.failed("found element " + std::to_string(i) + " not finite");
          }
          if (zero && weight[i] != 0) return sample.failed("found zeros become something");
        }
        return {};
      },
      /*with_checkpoint=*/false);
  if (!ran.ok()) return std::move(ran).error();
  return done(context);
}

Result<std::string> point_cancel(Context& context) {
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    Feeding feeding;
    feeding.cut = Cut::random;
    LS_TRY(const Produced whole, produce(sample.config, sample.view, sample.answer, feeding));
    for (uint64_t stop = 0; stop <= std::min<uint64_t>(whole.feeds, 12); ++stop) {
      feeding.stop_after = stop;
      feeding.threads = stop % 2 == 0 ? 1 : 2;
      LS_TRY(const Produced dropped, produce(sample.config, sample.view, sample.answer, feeding));
      if (!dropped.aborted && stop < whole.feeds) return sample.failed("found no abort");
    }
    // The user's wish may be seen anywhere or nowhere, but only as that.
    CancelToken token;
    token.cancel();
    plugin::set_host_cancel(&token);
    auto made = produce(sample.config, sample.view, sample.answer);
    plugin::set_host_cancel(nullptr);
    if (!made.ok() && made.error().code != Code::cancelled) return std::move(made).error();
    LS_TRY(const Produced again, produce(sample.config, sample.view, sample.answer));
    return same_bytes(sample, whole, again, "after cancelled sessions");
  });
  if (!ran.ok()) return std::move(ran).error();
  return done(context);
}

}  // namespace loadstone::conformance
