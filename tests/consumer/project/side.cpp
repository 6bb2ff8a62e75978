// Compiled twice, as left() and as right(): a product on the CPU backend, and an error when asked for one.
#include <deltatune/deltatune.hpp>

double SIDE(bool fail) {
  using Cpu = deltatune::DefaultCpu;
  if (fail) throw deltatune::Error("side", "asked to fail");
  Cpu::Context ctx(1);
  deltatune::Tensor<float, Cpu> a(ctx, {1, 3}), b(ctx, {3, 1}), c(ctx, {1, 1});
  Cpu::fill(ctx, a.view(), 2.0f);
  Cpu::fill(ctx, b.view(), 7.0f);
  Cpu::gemm(ctx, deltatune::Gemm<float>{.a = a.view(), .b = b.view(), .c = c.view()});
  float product = 0;
  Cpu::copy_out(ctx, c.view().data, &product, sizeof product);
  return static_cast<double>(product);
}
