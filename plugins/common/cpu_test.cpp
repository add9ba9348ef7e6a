#include "common/cpu.hpp"

#include <gtest/gtest.h>

namespace loadstone::common {
namespace {

TEST(Cpu, TakesTheBestLevelByDefault) {
  EXPECT_EQ(choose_cpu(nullptr, Cpu::avx512).cpu, Cpu::avx512);
  EXPECT_EQ(choose_cpu(nullptr, Cpu::scalar).cpu, Cpu::scalar);
}

TEST(Cpu, ForcedLevelDecides) {
  EXPECT_EQ(choose_cpu("scalar", Cpu::avx512).cpu, Cpu::scalar);
  EXPECT_EQ(choose_cpu("avx2", Cpu::avx512).cpu, Cpu::avx2);
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx512).cpu, Cpu::avx512);
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx512).error, "");
}

TEST(Cpu, RefusesALevelThatTheMachineLacks) {
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx2).error,
            "instruction set not available: LOADSTONE_CPU: found \"avx512\", expected at most "
            "\"avx2\" on this machine");
}

TEST(Cpu, RefusesAnUnknownLevel) {
  const char* text = "unknown instruction set: LOADSTONE_CPU: found \"";
  const char* wanted = "\", expected scalar, avx2 or avx512";
  EXPECT_EQ(choose_cpu("", Cpu::avx2).error, std::string(text) + wanted);
  EXPECT_EQ(choose_cpu("AVX2", Cpu::avx2).error, std::string(text) + "AVX2" + wanted);
  EXPECT_EQ(choose_cpu("a\n\"b", Cpu::avx2).error, std::string(text) + "a??b" + wanted);
}

TEST(Cpu, ProcessChoiceIsFine) { EXPECT_EQ(cpu_choice().error, ""); }

}  // namespace
}  // namespace loadstone::common
