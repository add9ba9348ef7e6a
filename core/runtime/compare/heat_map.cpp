#include "runtime/compare/heat_map.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace loadstone::compare {
namespace {

/// Black, violet, red, orange, yellow, white: brightness rises all the way, so the map also reads
/// in grey.
constexpr std::array<std::array<double, 3>, 6> kColours{
    {{0, 0, 0}, {72, 12, 107}, {187, 31, 62}, {242, 120, 20}, {252, 214, 80}, {255, 255, 255}}};

std::array<uint8_t, 3> colour_of(double share) {
  const double at = std::clamp(share, 0.0, 1.0) * (kColours.size() - 1);
  const size_t low = std::min(static_cast<size_t>(at), kColours.size() - 2);
  const double weight = at - static_cast<double>(low);
  std::array<uint8_t, 3> out{};
  for (size_t i = 0; i < 3; ++i) {
    out[i] = static_cast<uint8_t>(kColours[low][i] +
                                  (kColours[low + 1][i] - kColours[low][i]) * weight + 0.5);
  }
  return out;
}

}  // namespace

Frame heat_map(const Frame& reference, const Frame& candidate, uint32_t full) {
  Frame map{reference.height, reference.width, std::vector<uint8_t>(reference.rgb.size())};
  for (size_t pixel = 0; pixel + 2 < map.rgb.size(); pixel += 3) {
    int largest = 0;
    for (size_t i = pixel; i < pixel + 3; ++i) {
      largest = std::max(largest, std::abs(int{reference.rgb[i]} - int{candidate.rgb[i]}));
    }
    const auto colour = colour_of(static_cast<double>(largest) / full);
    std::copy(colour.begin(), colour.end(), map.rgb.begin() + static_cast<ptrdiff_t>(pixel));
  }
  return map;
}

uint32_t largest_difference(const Frame& reference, const Frame& candidate) {
  int largest = 1;
  for (size_t i = 0; i < reference.rgb.size(); ++i) {
    largest = std::max(largest, std::abs(int{reference.rgb[i]} - int{candidate.rgb[i]}));
  }
  return static_cast<uint32_t>(largest);
}

}  // namespace loadstone::compare
