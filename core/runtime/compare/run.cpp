#include "runtime/compare/run.hpp"

#include <malloc.h>

#include <chrono>

#include "base/text.hpp"
#include "runtime/compare/frames.hpp"
#include "runtime/compare/memory_peak.hpp"

namespace loadstone::compare {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Measured {
  Generation generation;
  std::vector<Frame> frames;
  std::vector<LayerError> layers;
  std::vector<std::string> notes;
};

Status measure_run(Side& side, const Drawing& drawing, Measured& out) {
  const bool peak_known = reset_memory_peak();
  const auto start = Clock::now();
  LS_TRY(out.frames, side.draw(drawing));
  out.generation.run_seconds.push_back(seconds_since(start));
  out.generation.run_peak_mib.push_back(peak_known ? memory_peak_mib() : std::nullopt);
  return {};
}

/// `against`: the reference to measure layers against, or null.
Result<Measured> measure_side(const Request& request, const VariantConfig& variant,
                              const OpenSide& open, const VariantConfig* against) {
  Measured out;
  const auto start = Clock::now();
  LS_TRY(std::unique_ptr<Side> side, open(variant));
  out.generation.load_seconds = seconds_since(start);
  out.generation.stored_nbytes = side->stored_nbytes();
  out.notes = side->notes();
  for (uint32_t run = 0; run < request.warmup_runs; ++run) {
    LS_TRY([[maybe_unused]] const auto frames, side->draw(request.drawing));
  }
  for (uint32_t run = 0; run < request.measure_runs; ++run) {
    LS_CHECK(measure_run(*side, request.drawing, out));
  }
  if (against != nullptr) {
    LS_TRY(out.layers, side->layer_errors(*against, request.drawing));
  }
  side.reset();
  ::malloc_trim(0);  // so that the other side's peak isn't this one's leavings
  return out;
}

Result<Measured> labelled(Result<Measured> measured, const std::string& label) {
  if (!measured) return std::move(measured).error().at(label);
  return measured;
}

}  // namespace

Result<Outcome> run_comparison(const Request& request, const OpenSide& open) {
  if (request.measure_runs == 0) {
    return Error{Code::invalid_argument,
                 "nothing to measure",
                 "measure runs",
                 "found 0, expected at least 1",
                 "",
                 {}};
  }
  LS_TRY(Measured reference,
         labelled(measure_side(request, request.reference, open, nullptr), "reference"));
  LS_TRY(Measured candidate, labelled(measure_side(request, request.candidate, open,
                                                   request.layers ? &request.reference : nullptr),
                                      "candidate"));
  Outcome out;
  Comparison& c = out.comparison;
  LS_TRY(c.metrics, frame_metrics(reference.frames, candidate.frames));
  c.model = request.model;
  c.prompt = request.drawing.prompt;
  c.negative_prompt = request.drawing.negative_prompt;
  c.seed = request.drawing.seed;
  c.warmup_runs = request.warmup_runs;
  c.measure_runs = request.measure_runs;
  c.reference_config = request.reference;
  c.candidate_config = request.candidate;
  c.sampling = request.drawing.sampling;
  c.reference_generation = std::move(reference.generation);
  c.candidate_generation = std::move(candidate.generation);
  c.layers = std::move(candidate.layers);
  for (std::string& note : reference.notes) c.notes.push_back("reference: " + std::move(note));
  for (std::string& note : candidate.notes) c.notes.push_back("candidate: " + std::move(note));
  out.reference = std::move(reference.frames);
  out.candidate = std::move(candidate.frames);
  return out;
}

Result<Outcome> compare_folders(FileSystem& files, const std::string& reference,
                                const std::string& candidate) {
  LS_TRY(FrameFolder left, read_frames(files, reference));
  LS_TRY(FrameFolder right, read_frames(files, candidate));
  Outcome out;
  Comparison& c = out.comparison;
  LS_TRY(c.metrics, frame_metrics(left.frames, right.frames));
  c.reference_dir = reference;
  c.candidate_dir = candidate;
  c.notes = std::move(left.notes);
  for (std::string& note : right.notes) c.notes.push_back(std::move(note));
  for (size_t i = 0; i < left.names.size(); ++i) {
    if (left.names[i] == right.names[i]) continue;
    c.notes.push_back("names differ, paired in order: " + loadstone::quoted(left.names[i]) +
                      " with " + loadstone::quoted(right.names[i]));
    break;
  }
  out.reference = std::move(left.frames);
  out.candidate = std::move(right.frames);
  return out;
}

}  // namespace loadstone::compare
