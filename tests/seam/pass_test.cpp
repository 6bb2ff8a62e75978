#include "deltatune/seam/pass.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "deltatune/backend/reference.hpp"

using namespace deltatune;
using X = Tensor<float, Reference>;

TEST_CASE("gradient sink: the first contribution overwrites, later ones add", "[seam]") {
  float storage = 0;
  GradientSink<float> fresh = GradientSink<float>::fresh({&storage, 1, 1});
  CHECK(fresh.wanted());
  CHECK_FALSE(fresh.written());
  CHECK(fresh.next_beta() == 0.0F);
  CHECK(fresh.written());
  CHECK(fresh.next_beta() == 1.0F);
  CHECK(fresh.next_beta() == 1.0F);
  CHECK(fresh.view().data == &storage);
  GradientSink<float> accumulating = GradientSink<float>::accumulating({&storage, 1, 1});
  CHECK(accumulating.wanted());
  CHECK(accumulating.next_beta() == 1.0F);
  CHECK_FALSE(GradientSink<float>::none().wanted());
}

TEST_CASE("dropout masks of a pass: only in training, named by seed, step and place", "[seam]") {
  Reference::Context ctx;
  Workspace<Reference> saved(ctx), scratch(ctx);
  const auto keys = [&](Mode mode, std::uint64_t seed, std::uint64_t step, std::uint64_t micro_step) {
    Pass<X> pass{ctx, saved, scratch, mode, seed, step, micro_step};
    std::vector<RandomKey> result;
    for (int i = 0; i < 3; ++i) {
      const DropoutMask mask = pass.dropout(i == 1 ? 0.0 : 0.1);
      CHECK(mask.active() == (mode == Mode::train && i != 1));
      result.push_back(mask.key);
    }
    return result;
  };
  const auto base = keys(Mode::train, 1, 2, 3);
  CHECK(keys(Mode::train, 1, 2, 3) == base);  // again, for backward or another run
  CHECK_FALSE(base[0] == base[2]);
  CHECK_FALSE(keys(Mode::train, 2, 2, 3)[0] == base[0]);
  CHECK_FALSE(keys(Mode::train, 1, 3, 3)[0] == base[0]);
  CHECK_FALSE(keys(Mode::train, 1, 2, 4)[0] == base[0]);
  keys(Mode::differentiate, 1, 2, 3);
  keys(Mode::evaluate, 1, 2, 3);
}

TEST_CASE("a pass takes scratch by scope and keeps what is saved", "[seam]") {
  Reference::Context ctx;
  Workspace<Reference> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  {
    const auto scope = pass.scope();
    pass.take(2, 3);
    pass.keep(4, 16);
    CHECK(scratch.mark() == 64);
  }
  CHECK(scratch.mark() == 0);
  CHECK(saved.mark() == 256);
}
