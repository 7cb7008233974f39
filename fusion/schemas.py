"""The operators a graph may use, one schema a line: deterministic inference, nothing in place.

Written as torch prints an ATen schema, less the namespace, aliasing, the values of defaults, and
layout, device and pin_memory, which follow the graph's inputs. `int.*` compute on row counts.
"""

# ruff: noqa: E501 -- a schema is one line, as torch prints it

SCHEMAS = """\
conv1d(Tensor input, Tensor weight, Tensor? bias=, SymInt[1] stride=, SymInt[1] padding=, SymInt[1] dilation=, SymInt groups=) -> Tensor
conv1d.padding(Tensor input, Tensor weight, Tensor? bias=, SymInt[1] stride=, str padding=, SymInt[1] dilation=, SymInt groups=) -> Tensor
conv2d(Tensor input, Tensor weight, Tensor? bias=, SymInt[2] stride=, SymInt[2] padding=, SymInt[2] dilation=, SymInt groups=) -> Tensor
conv2d.padding(Tensor input, Tensor weight, Tensor? bias=, SymInt[2] stride=, str padding=, SymInt[2] dilation=, SymInt groups=) -> Tensor
conv3d(Tensor input, Tensor weight, Tensor? bias=, SymInt[3] stride=, SymInt[3] padding=, SymInt[3] dilation=, SymInt groups=) -> Tensor
conv3d.padding(Tensor input, Tensor weight, Tensor? bias=, SymInt[3] stride=, str padding=, SymInt[3] dilation=, SymInt groups=) -> Tensor
conv_transpose1d(Tensor input, Tensor weight, Tensor? bias=, SymInt[1] stride=, SymInt[1] padding=, SymInt[1] output_padding=, SymInt groups=, SymInt[1] dilation=) -> Tensor
conv_transpose2d.input(Tensor input, Tensor weight, Tensor? bias=, SymInt[2] stride=, SymInt[2] padding=, SymInt[2] output_padding=, SymInt groups=, SymInt[2] dilation=) -> Tensor
conv_transpose3d.input(Tensor input, Tensor weight, Tensor? bias=, SymInt[3] stride=, SymInt[3] padding=, SymInt[3] output_padding=, SymInt groups=, SymInt[3] dilation=) -> Tensor
convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups) -> Tensor

linear(Tensor input, Tensor weight, Tensor? bias=) -> Tensor
addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=, Scalar alpha=) -> Tensor
mm(Tensor self, Tensor mat2) -> Tensor
bmm(Tensor self, Tensor mat2) -> Tensor
baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=, Scalar alpha=) -> Tensor
matmul(Tensor self, Tensor other) -> Tensor
mv(Tensor self, Tensor vec) -> Tensor
bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=) -> Tensor
einsum(str equation, Tensor[] tensors, *, int[]? path=) -> Tensor

batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool training, float momentum, float eps, bool cudnn_enabled) -> Tensor
_native_batch_norm_legit_no_training(Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean, Tensor running_var, float momentum, float eps) -> (Tensor, Tensor, Tensor)
layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=, Tensor? bias=, float eps=, bool cudnn_enable=) -> Tensor
native_layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)
group_norm(Tensor input, int num_groups, Tensor? weight=, Tensor? bias=, float eps=, bool cudnn_enabled=) -> Tensor
native_group_norm(Tensor input, Tensor? weight, Tensor? bias, SymInt N, SymInt C, SymInt HxW, int group, float eps) -> (Tensor, Tensor, Tensor)
instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool use_input_stats, float momentum, float eps, bool cudnn_enabled) -> Tensor
rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=, float? eps=) -> Tensor

relu(Tensor self) -> Tensor
relu6(Tensor self) -> Tensor
hardtanh(Tensor self, Scalar min_val=, Scalar max_val=) -> Tensor
hardswish(Tensor self) -> Tensor
hardsigmoid(Tensor self) -> Tensor
silu(Tensor self) -> Tensor
gelu(Tensor self, *, str approximate=) -> Tensor
leaky_relu(Tensor self, Scalar negative_slope=) -> Tensor
elu(Tensor self, Scalar alpha=, Scalar scale=, Scalar input_scale=) -> Tensor
selu(Tensor self) -> Tensor
celu(Tensor self, Scalar alpha=) -> Tensor
mish(Tensor self) -> Tensor
softplus(Tensor self, Scalar beta=, Scalar threshold=) -> Tensor
prelu(Tensor self, Tensor weight) -> Tensor
sigmoid(Tensor self) -> Tensor
log_sigmoid(Tensor self) -> Tensor
tanh(Tensor self) -> Tensor
softmax.int(Tensor self, int dim, ScalarType? dtype=) -> Tensor
_softmax(Tensor self, int dim, bool half_to_float) -> Tensor
log_softmax.int(Tensor self, int dim, ScalarType? dtype=) -> Tensor
_log_softmax(Tensor self, int dim, bool half_to_float) -> Tensor
glu(Tensor self, int dim=) -> Tensor
threshold(Tensor self, Scalar threshold, Scalar value) -> Tensor
softshrink(Tensor self, Scalar lambd=) -> Tensor
hardshrink(Tensor self, Scalar lambd=) -> Tensor

max_pool1d(Tensor self, int[1] kernel_size, int[1] stride=, int[1] padding=, int[1] dilation=, bool ceil_mode=) -> Tensor
max_pool2d(Tensor self, int[2] kernel_size, int[2] stride=, int[2] padding=, int[2] dilation=, bool ceil_mode=) -> Tensor
max_pool3d(Tensor self, int[3] kernel_size, int[3] stride=, int[3] padding=, int[3] dilation=, bool ceil_mode=) -> Tensor
max_pool2d_with_indices(Tensor self, int[2] kernel_size, int[2] stride=, int[2] padding=, int[2] dilation=, bool ceil_mode=) -> (Tensor, Tensor)
avg_pool1d(Tensor self, int[1] kernel_size, int[1] stride=, int[1] padding=, bool ceil_mode=, bool count_include_pad=) -> Tensor
avg_pool2d(Tensor self, int[2] kernel_size, int[2] stride=, int[2] padding=, bool ceil_mode=, bool count_include_pad=, int? divisor_override=) -> Tensor
avg_pool3d(Tensor self, int[3] kernel_size, int[3] stride=, int[3] padding=, bool ceil_mode=, bool count_include_pad=, int? divisor_override=) -> Tensor
adaptive_avg_pool1d(Tensor self, int[1] output_size) -> Tensor
adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor
adaptive_avg_pool3d(Tensor self, SymInt[3] output_size) -> Tensor
_adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor
adaptive_max_pool1d(Tensor self, int[1] output_size) -> (Tensor, Tensor)
adaptive_max_pool2d(Tensor self, int[2] output_size) -> (Tensor, Tensor)

mean(Tensor self, *, ScalarType? dtype=) -> Tensor
mean.dim(Tensor self, int[1]? dim, bool keepdim=, *, ScalarType? dtype=) -> Tensor
sum(Tensor self, *, ScalarType? dtype=) -> Tensor
sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=, *, ScalarType? dtype=) -> Tensor
prod.dim_int(Tensor self, int dim, bool keepdim=, *, ScalarType? dtype=) -> Tensor
amax(Tensor self, int[1] dim=, bool keepdim=) -> Tensor
amin(Tensor self, int[1] dim=, bool keepdim=) -> Tensor
max(Tensor self) -> Tensor
min(Tensor self) -> Tensor
max.dim(Tensor self, int dim, bool keepdim=) -> (Tensor, Tensor)
min.dim(Tensor self, int dim, bool keepdim=) -> (Tensor, Tensor)
argmax(Tensor self, int? dim=, bool keepdim=) -> Tensor
argmin(Tensor self, int? dim=, bool keepdim=) -> Tensor
var.correction(Tensor self, int[1]? dim=, *, Scalar? correction=, bool keepdim=) -> Tensor
std.correction(Tensor self, int[1]? dim=, *, Scalar? correction=, bool keepdim=) -> Tensor
var.dim(Tensor self, int[1]? dim, bool unbiased=, bool keepdim=) -> Tensor
std.dim(Tensor self, int[1]? dim, bool unbiased=, bool keepdim=) -> Tensor
cumsum(Tensor self, int dim, *, ScalarType? dtype=) -> Tensor
logsumexp(Tensor self, int[1] dim, bool keepdim=) -> Tensor
any.dim(Tensor self, int dim, bool keepdim=) -> Tensor
all.dim(Tensor self, int dim, bool keepdim=) -> Tensor
any(Tensor self) -> Tensor
all(Tensor self) -> Tensor
topk(Tensor self, SymInt k, int dim=, bool largest=, bool sorted=) -> (Tensor, Tensor)
sort(Tensor self, int dim=, bool descending=) -> (Tensor, Tensor)
linalg_vector_norm(Tensor self, Scalar ord=, int[1]? dim=, bool keepdim=, *, ScalarType? dtype=) -> Tensor
norm.ScalarOpt_dim(Tensor self, Scalar? p, int[1] dim, bool keepdim=) -> Tensor

add.Tensor(Tensor self, Tensor other, *, Scalar alpha=) -> Tensor
add.Scalar(Tensor self, Scalar other, Scalar alpha=) -> Tensor
sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=) -> Tensor
sub.Scalar(Tensor self, Scalar other, Scalar alpha=) -> Tensor
mul.Tensor(Tensor self, Tensor other) -> Tensor
mul.Scalar(Tensor self, Scalar other) -> Tensor
div.Tensor(Tensor self, Tensor other) -> Tensor
div.Scalar(Tensor self, Scalar other) -> Tensor
div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor
div.Scalar_mode(Tensor self, Scalar other, *, str? rounding_mode) -> Tensor
rsub.Scalar(Tensor self, Scalar other, Scalar alpha=) -> Tensor
rsub.Tensor(Tensor self, Tensor other, *, Scalar alpha=) -> Tensor
floor_divide(Tensor self, Tensor other) -> Tensor
floor_divide.Scalar(Tensor self, Scalar other) -> Tensor
remainder.Tensor(Tensor self, Tensor other) -> Tensor
remainder.Scalar(Tensor self, Scalar other) -> Tensor
fmod.Tensor(Tensor self, Tensor other) -> Tensor
fmod.Scalar(Tensor self, Scalar other) -> Tensor

pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor
pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor
pow.Scalar(Scalar self, Tensor exponent) -> Tensor
neg(Tensor self) -> Tensor
abs(Tensor self) -> Tensor
exp(Tensor self) -> Tensor
expm1(Tensor self) -> Tensor
log(Tensor self) -> Tensor
log1p(Tensor self) -> Tensor
log2(Tensor self) -> Tensor
sqrt(Tensor self) -> Tensor
rsqrt(Tensor self) -> Tensor
square(Tensor self) -> Tensor
reciprocal(Tensor self) -> Tensor
sin(Tensor self) -> Tensor
cos(Tensor self) -> Tensor
tan(Tensor self) -> Tensor
asin(Tensor self) -> Tensor
acos(Tensor self) -> Tensor
atan(Tensor self) -> Tensor
atan2(Tensor self, Tensor other) -> Tensor
sinh(Tensor self) -> Tensor
cosh(Tensor self) -> Tensor
erf(Tensor self) -> Tensor
floor(Tensor self) -> Tensor
ceil(Tensor self) -> Tensor
round(Tensor self) -> Tensor
trunc(Tensor self) -> Tensor
sign(Tensor self) -> Tensor

clamp(Tensor self, Scalar? min=, Scalar? max=) -> Tensor
clamp.Tensor(Tensor self, Tensor? min=, Tensor? max=) -> Tensor
clamp_min(Tensor self, Scalar min) -> Tensor
clamp_max(Tensor self, Scalar max) -> Tensor
maximum(Tensor self, Tensor other) -> Tensor
minimum(Tensor self, Tensor other) -> Tensor
max.other(Tensor self, Tensor other) -> Tensor
min.other(Tensor self, Tensor other) -> Tensor
addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=) -> Tensor
addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=) -> Tensor
lerp.Scalar(Tensor self, Tensor end, Scalar weight) -> Tensor
lerp.Tensor(Tensor self, Tensor end, Tensor weight) -> Tensor
logaddexp(Tensor self, Tensor other) -> Tensor
nan_to_num(Tensor self, float? nan=, float? posinf=, float? neginf=) -> Tensor
isnan(Tensor self) -> Tensor
isinf(Tensor self) -> Tensor

where.self(Tensor condition, Tensor self, Tensor other) -> Tensor
where.ScalarOther(Tensor condition, Tensor self, Scalar other) -> Tensor
where.ScalarSelf(Tensor condition, Scalar self, Tensor other) -> Tensor
where.Scalar(Tensor condition, Scalar self, Scalar other) -> Tensor
masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor
masked_fill.Tensor(Tensor self, Tensor mask, Tensor value) -> Tensor
logical_not(Tensor self) -> Tensor
logical_and(Tensor self, Tensor other) -> Tensor
logical_or(Tensor self, Tensor other) -> Tensor
logical_xor(Tensor self, Tensor other) -> Tensor
bitwise_not(Tensor self) -> Tensor
bitwise_and.Tensor(Tensor self, Tensor other) -> Tensor
bitwise_or.Tensor(Tensor self, Tensor other) -> Tensor
bitwise_xor.Tensor(Tensor self, Tensor other) -> Tensor
bitwise_and.Scalar(Tensor self, Scalar other) -> Tensor
bitwise_or.Scalar(Tensor self, Scalar other) -> Tensor
__and__.Tensor(Tensor self, Tensor other) -> Tensor
__or__.Tensor(Tensor self, Tensor other) -> Tensor
__xor__.Tensor(Tensor self, Tensor other) -> Tensor

eq.Scalar(Tensor self, Scalar other) -> Tensor
eq.Tensor(Tensor self, Tensor other) -> Tensor
ne.Scalar(Tensor self, Scalar other) -> Tensor
ne.Tensor(Tensor self, Tensor other) -> Tensor
lt.Scalar(Tensor self, Scalar other) -> Tensor
lt.Tensor(Tensor self, Tensor other) -> Tensor
le.Scalar(Tensor self, Scalar other) -> Tensor
le.Tensor(Tensor self, Tensor other) -> Tensor
gt.Scalar(Tensor self, Scalar other) -> Tensor
gt.Tensor(Tensor self, Tensor other) -> Tensor
ge.Scalar(Tensor self, Scalar other) -> Tensor
ge.Tensor(Tensor self, Tensor other) -> Tensor

view(Tensor self, SymInt[] size) -> Tensor
reshape(Tensor self, SymInt[] shape) -> Tensor
flatten.using_ints(Tensor self, int start_dim=, int end_dim=) -> Tensor
unflatten.int(Tensor self, int dim, SymInt[] sizes) -> Tensor
transpose.int(Tensor self, int dim0, int dim1) -> Tensor
permute(Tensor self, int[] dims) -> Tensor
t(Tensor self) -> Tensor
squeeze(Tensor self) -> Tensor
squeeze.dim(Tensor self, int dim) -> Tensor
squeeze.dims(Tensor self, int[] dim) -> Tensor
unsqueeze(Tensor self, int dim) -> Tensor
expand(Tensor self, SymInt[] size, *, bool implicit=) -> Tensor
expand_as(Tensor self, Tensor other) -> Tensor
view_as(Tensor self, Tensor other) -> Tensor
reshape_as(Tensor self, Tensor other) -> Tensor
type_as(Tensor self, Tensor other) -> Tensor
broadcast_to(Tensor self, SymInt[] size) -> Tensor
movedim.int(Tensor self, int source, int destination) -> Tensor
swapaxes(Tensor self, int axis0, int axis1) -> Tensor
numpy_T(Tensor self) -> Tensor
_unsafe_view(Tensor self, SymInt[] size) -> Tensor

cat(Tensor[] tensors, int dim=) -> Tensor
stack(Tensor[] tensors, int dim=) -> Tensor
chunk(Tensor self, int chunks, int dim=) -> Tensor[]
split.Tensor(Tensor self, SymInt split_size, int dim=) -> Tensor[]
split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=) -> Tensor[]
unbind.int(Tensor self, int dim=) -> Tensor[]
slice.Tensor(Tensor self, int dim=, SymInt? start=, SymInt? end=, SymInt step=) -> Tensor
select.int(Tensor self, int dim, SymInt index) -> Tensor
narrow(Tensor self, int dim, SymInt start, SymInt length) -> Tensor
index_select(Tensor self, int dim, Tensor index) -> Tensor
gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=) -> Tensor
index.Tensor(Tensor self, Tensor?[] indices) -> Tensor
roll(Tensor self, SymInt[1] shifts, int[1] dims=) -> Tensor
flip(Tensor self, int[] dims) -> Tensor
repeat(Tensor self, SymInt[] repeats) -> Tensor
repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=, *, SymInt? output_size=) -> Tensor
tile(Tensor self, SymInt[] dims) -> Tensor
tril(Tensor self, SymInt diagonal=) -> Tensor
triu(Tensor self, SymInt diagonal=) -> Tensor
diagonal(Tensor self, int offset=, int dim1=, int dim2=) -> Tensor
unfold(Tensor self, int dimension, int size, int step) -> Tensor
meshgrid(Tensor[] tensors) -> Tensor[]
meshgrid.indexing(Tensor[] tensors, *, str indexing) -> Tensor[]

select_scatter(Tensor self, Tensor src, int dim, SymInt index) -> Tensor
slice_scatter(Tensor self, Tensor src, int dim=, SymInt? start=, SymInt? end=, SymInt step=) -> Tensor
index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=) -> Tensor
scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor
scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor
scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor
copy(Tensor self, Tensor src, bool non_blocking=) -> Tensor

pad(Tensor self, SymInt[] pad, str mode=, float? value=) -> Tensor
constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=) -> Tensor
reflection_pad1d(Tensor self, SymInt[2] padding) -> Tensor
reflection_pad2d(Tensor self, SymInt[4] padding) -> Tensor
replication_pad1d(Tensor self, SymInt[2] padding) -> Tensor
replication_pad2d(Tensor self, SymInt[4] padding) -> Tensor
pixel_shuffle(Tensor self, int upscale_factor) -> Tensor
pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor
channel_shuffle(Tensor self, SymInt groups) -> Tensor
im2col(Tensor self, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride) -> Tensor
col2im(Tensor self, SymInt[2] output_size, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride) -> Tensor
upsample_nearest1d(Tensor self, SymInt[1] output_size, float? scales=) -> Tensor
upsample_nearest2d(Tensor self, SymInt[2] output_size, float? scales_h=, float? scales_w=) -> Tensor
upsample_nearest2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor
upsample_bilinear2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=, float? scales_w=) -> Tensor
upsample_bilinear2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors) -> Tensor
upsample_bicubic2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=, float? scales_w=) -> Tensor
upsample_bicubic2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors) -> Tensor
upsample_linear1d(Tensor self, SymInt[1] output_size, bool align_corners, float? scales=) -> Tensor
upsample_nearest1d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor
grid_sampler(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners) -> Tensor

embedding(Tensor weight, Tensor indices, SymInt padding_idx=, bool scale_grad_by_freq=, bool sparse=) -> Tensor
one_hot(Tensor self, int num_classes=) -> Tensor
bucketize.Tensor(Tensor self, Tensor boundaries, *, bool out_int32=, bool right=) -> Tensor
scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=, float dropout_p=, bool is_causal=, *, float? scale=, bool enable_gqa=) -> Tensor

lstm.input(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first) -> (Tensor, Tensor, Tensor)
gru.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first) -> (Tensor, Tensor)
rnn_tanh.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first) -> (Tensor, Tensor)
rnn_relu.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first) -> (Tensor, Tensor)
lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=, Tensor? b_hh=) -> (Tensor, Tensor)
gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=, Tensor? b_hh=) -> Tensor

contiguous(Tensor self, *, MemoryFormat memory_format=) -> Tensor
clone(Tensor self, *, MemoryFormat? memory_format=) -> Tensor
alias(Tensor self) -> Tensor
detach(Tensor self) -> Tensor
lift_fresh_copy(Tensor self) -> Tensor
dropout(Tensor input, float p, bool train) -> Tensor
feature_dropout(Tensor input, float p, bool train) -> Tensor
to.dtype(Tensor self, ScalarType dtype, bool non_blocking=, bool copy=, MemoryFormat? memory_format=) -> Tensor

arange(Scalar end, *, ScalarType? dtype=) -> Tensor
arange.start(Scalar start, Scalar end, *, ScalarType? dtype=) -> Tensor
arange.start_step(Scalar start, Scalar end, Scalar step=, *, ScalarType? dtype=) -> Tensor
zeros(SymInt[] size, *, ScalarType? dtype=) -> Tensor
ones(SymInt[] size, *, ScalarType? dtype=) -> Tensor
full(SymInt[] size, Scalar fill_value, *, ScalarType? dtype=) -> Tensor
scalar_tensor(Scalar s, *, ScalarType? dtype=) -> Tensor
eye(SymInt n, *, ScalarType? dtype=) -> Tensor
linspace(Scalar start, Scalar end, int steps, *, ScalarType? dtype=) -> Tensor
zeros_like(Tensor self, *, ScalarType? dtype=, MemoryFormat? memory_format=) -> Tensor
ones_like(Tensor self, *, ScalarType? dtype=, MemoryFormat? memory_format=) -> Tensor
full_like(Tensor self, Scalar fill_value, *, ScalarType? dtype=, MemoryFormat? memory_format=) -> Tensor
new_zeros(Tensor self, SymInt[] size, *, ScalarType? dtype=) -> Tensor
new_ones(Tensor self, SymInt[] size, *, ScalarType? dtype=) -> Tensor
new_full(Tensor self, SymInt[] size, Scalar fill_value, *, ScalarType? dtype=) -> Tensor

sym_size.int(Tensor self, int dim) -> SymInt
int.add(SymInt a, SymInt b) -> SymInt
int.sub(SymInt a, SymInt b) -> SymInt
int.mul(SymInt a, SymInt b) -> SymInt
int.floordiv(SymInt a, SymInt b) -> SymInt
int.mod(SymInt a, SymInt b) -> SymInt
int.neg(SymInt a) -> SymInt
int.min(SymInt a, SymInt b) -> SymInt
int.max(SymInt a, SymInt b) -> SymInt
int.sum(SymInt[] values) -> SymInt
int.truediv(SymInt a, SymInt b) -> float
int.float(SymInt a) -> float
"""

# Operators that only a specialised graph has (fusion/specialise.py): no graph may bring them along,
# for they check less than those above.
DEVICE_SCHEMAS = """\
mkldnn.conv2d(Tensor input, Tensor weight, Tensor? bias, int[] padding, int[] stride, int[] dilation, int groups, str attr, Scalar[] scalars, str? algorithm) -> Tensor
mkldnn.conv2d_add(Tensor input, Tensor addend, Tensor weight, Tensor? bias, int[] padding, int[] stride, int[] dilation, int groups, str? attr) -> Tensor
"""
