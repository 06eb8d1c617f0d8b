; tools/training_kernel.py 780cac6ff841eeba2cdbe8dfc43dd6284f8a352d54f43b94f463789a03a1e05b

; Function Attrs: nofree norecurse nosync nounwind memory(readwrite, inaccessiblemem: none, target_mem0: none, target_mem1: none)
define noundef i32 @train(ptr noalias writeonly captures(none) %retptr, ptr noalias writeonly captures(none) %excinfo, ptr readonly captures(none) %arg.x, ptr readonly captures(none) %arg.y, ptr readonly captures(none) %arg.batches, ptr captures(none) %arg.head, ptr captures(none) %arg.ahead, ptr readonly captures(none) %arg.anchor, ptr readonly captures(none) %arg.correction, ptr readonly captures(none) %arg.class_weights, ptr captures(none) %arg.m, ptr captures(none) %arg.v, ptr captures(none) %arg.images, ptr captures(none) %arg.scores, ptr captures(none) %arg.gradient, i64 %arg.features, i64 %arg.classes, i64 %arg.rows, i64 %arg.width, i64 %arg.count, i64 %arg.parts, i64 %arg.size, i64 %arg.optimizer, i64 %arg.steps, float %arg.rate, float %arg.inner_rate, float %arg.proximal, float %arg.decay, float %arg.l2) local_unnamed_addr #0 {
entry:
  %.353 = alloca ptr, align 8
  store ptr null, ptr %.353, align 8
  %excinfo.1 = alloca ptr, align 8
  store ptr null, ptr %excinfo.1, align 8
  %.1101 = alloca ptr, align 8
  store ptr null, ptr %.1101, align 8
  %excinfo.2 = alloca ptr, align 8
  store ptr null, ptr %excinfo.2, align 8
  %.165317.not = icmp slt i64 %arg.count, 1
  br i1 %.165317.not, label %B684, label %B36.if.lr.ph

B36.if.lr.ph:                                     ; preds = %entry
  %const = bitcast i64 9223372036854775804 to i64
  %.387 = mul i64 %arg.width, %arg.rows
  %.539 = fcmp reassoc nsz contract oeq float %arg.proximal, 0.000000e+00
  %.818 = fcmp reassoc nsz contract oeq float %arg.decay, 0.000000e+00
  %.arg.features = tail call i64 @llvm.smax.i64(i64 %arg.features, i64 0)
  %.1066 = fmul reassoc nsz contract float %arg.decay, %arg.rate
  %.1091 = add i64 %arg.steps, 1
  %.623284.not = icmp slt i64 %.387, 1
  %or.cond = select i1 %.539, i1 true, i1 %.623284.not
  %.900309.not = icmp slt i64 %arg.rows, 1
  %or.cond324 = select i1 %.818, i1 true, i1 %.900309.not
  %0 = add i64 %.387, -1
  %const_mat = add i64 %const, 2
  %unroll_iter = and i64 %.387, %const_mat
  %xtraiter19 = and i64 %.387, 3
  %unroll_iter22 = and i64 %.387, %const
  %.1032.prol = add nsw i64 %.arg.features, -1
  %scevgep72 = getelementptr i8, ptr %arg.head, i64 4
  br label %B36.if

B264.loopexit.unr-lcssa:                          ; preds = %B208.if
  %1 = and i64 %.387, 1
  %2 = icmp eq i64 %1, 0
  br i1 %2, label %B264, label %B208.if.epil.preheader

B208.if.epil.preheader:                           ; preds = %B208.if.preheader, %B264.loopexit.unr-lcssa
  %.473273275.epil.init = phi i64 [ 0, %B208.if.preheader ], [ %.480.1, %B264.loopexit.unr-lcssa ]
  %.506.epil = getelementptr float, ptr %arg.head, i64 %.473273275.epil.init
  %.507.epil = load float, ptr %.506.epil, align 4
  %.509.epil = getelementptr float, ptr %arg.gradient, i64 %.473273275.epil.init
  %.510.epil = load float, ptr %.509.epil, align 4
  %.512.epil = fmul reassoc nsz contract float %.510.epil, %arg.inner_rate
  %.513.epil = fsub reassoc nsz contract float %.507.epil, %.512.epil
  %.515.epil = getelementptr float, ptr %arg.ahead, i64 %.473273275.epil.init
  store float %.513.epil, ptr %.515.epil, align 4
  br label %B264

B264:                                             ; preds = %B76.endif, %B208.if.epil.preheader, %B264.loopexit.unr-lcssa
  %point.3.2 = phi ptr [ %point.2.1280.mux, %B76.endif ], [ %arg.ahead, %B208.if.epil.preheader ], [ %arg.ahead, %B264.loopexit.unr-lcssa ]
  %exitcond.not8 = icmp eq i64 %arg.parts, %.303
  br i1 %exitcond.not8, label %B266, label %B74.if

B266:                                             ; preds = %B36.if, %B264
  br i1 %or.cond, label %B380, label %B306.if.preheader

B306.if.preheader:                                ; preds = %B266
  %3 = icmp eq i64 %0, 0
  br i1 %3, label %B306.if.epil.preheader, label %B306.if.preheader31

B306.if.preheader31:                              ; preds = %B306.if.preheader
  br label %B306.if

B380.loopexit.unr-lcssa:                          ; preds = %B306.if
  %4 = and i64 %.387, 1
  %5 = icmp eq i64 %4, 0
  br i1 %5, label %B380, label %B306.if.epil.preheader

B306.if.epil.preheader:                           ; preds = %B380.loopexit.unr-lcssa, %B306.if.preheader
  %.629283285.epil.init = phi i64 [ 0, %B306.if.preheader ], [ %.636.1, %B380.loopexit.unr-lcssa ]
  %.662.epil = getelementptr float, ptr %arg.gradient, i64 %.629283285.epil.init
  %.663.epil = load float, ptr %.662.epil, align 4
  %.665.epil = getelementptr float, ptr %arg.head, i64 %.629283285.epil.init
  %.666.epil = load float, ptr %.665.epil, align 4
  %.668.epil = getelementptr float, ptr %arg.anchor, i64 %.629283285.epil.init
  %.669.epil = load float, ptr %.668.epil, align 4
  %.670.epil = fsub reassoc nsz contract float %.666.epil, %.669.epil
  %.672.epil = fmul reassoc nsz contract float %.670.epil, %arg.proximal
  %.673.epil = fadd reassoc nsz contract float %.672.epil, %.663.epil
  store float %.673.epil, ptr %.662.epil, align 4
  br label %B380

B380:                                             ; preds = %B306.if.epil.preheader, %B380.loopexit.unr-lcssa, %B266
  %6 = icmp slt i64 %.387, 1
  br i1 %6, label %B466, label %B416.if.preheader

B416.if.preheader:                                ; preds = %B380
  %7 = icmp ult i64 %.387, 4
  br i1 %7, label %B416.if.epil.preheader, label %B416.if.preheader30

B416.if.preheader30:                              ; preds = %B416.if.preheader
  br label %B416.if

B466.loopexit.unr-lcssa:                          ; preds = %B416.if
  %8 = icmp eq i64 %xtraiter19, 0
  br i1 %8, label %B466, label %B416.if.epil.preheader

B416.if.epil.preheader:                           ; preds = %B466.loopexit.unr-lcssa, %B416.if.preheader
  %.770290292.epil.init = phi i64 [ 0, %B416.if.preheader ], [ %.777.3, %B466.loopexit.unr-lcssa ]
  %9 = shl i64 %.770290292.epil.init, 2
  %scevgep68 = getelementptr i8, ptr %arg.correction, i64 %9
  %scevgep70 = getelementptr i8, ptr %arg.gradient, i64 %9
  br label %B416.if.epil

B416.if.epil:                                     ; preds = %B416.if.epil, %B416.if.epil.preheader
  %epil.iter = phi i64 [ %epil.iter.next, %B416.if.epil ], [ 0, %B416.if.epil.preheader ]
  %10 = shl nuw nsw i64 %epil.iter, 2
  %scevgep71 = getelementptr i8, ptr %scevgep70, i64 %10
  %.804.epil = load float, ptr %scevgep71, align 4
  %11 = shl nuw nsw i64 %epil.iter, 2
  %scevgep69 = getelementptr i8, ptr %scevgep68, i64 %11
  %.807.epil = load float, ptr %scevgep69, align 4
  %.808.epil = fadd reassoc nsz contract float %.807.epil, %.804.epil
  store float %.808.epil, ptr %scevgep71, align 4
  %epil.iter.next = add i64 %epil.iter, 1
  %epil.iter.cmp.not = icmp eq i64 %xtraiter19, %epil.iter.next
  br i1 %epil.iter.cmp.not, label %B466, label %B416.if.epil, !llvm.loop !0

B466:                                             ; preds = %B416.if.epil, %B466.loopexit.unr-lcssa, %B380
  br i1 %or.cond324, label %B618, label %B500.if.preheader

B500.if.preheader:                                ; preds = %B466
  br label %B500.if

B500.loopexit:                                    ; preds = %B554.if, %B554.if.prol.loopexit, %B500.if
  %exitcond323.not = icmp eq i64 %arg.rows, %.913
  br i1 %exitcond323.not, label %B618, label %B500.if

B618:                                             ; preds = %B500.loopexit, %B466
  %.1094 = add i64 %.1091, %.106.0
  store ptr null, ptr %.1101, align 8
  %.1105 = call i32 @move(ptr nonnull %.1101, ptr nonnull %excinfo.2, ptr %arg.head, ptr %arg.gradient, ptr %arg.m, ptr %arg.v, i64 %.387, i64 %arg.optimizer, float %arg.rate, i64 %.1094)
  switch i32 %.1105, label %B618.if [
    i32 -2, label %B34.backedge
    i32 0, label %B34.backedge
  ], !prof !2

B34.backedge:                                     ; preds = %B618, %B618
  %exitcond7.not = icmp eq i64 %.178, %arg.count
  br i1 %exitcond7.not, label %B684, label %B36.if

common.ret:                                       ; preds = %B618.if, %B76.if, %B684
  %common.ret.op = phi i32 [ 0, %B684 ], [ %.357, %B76.if ], [ %.1105, %B618.if ]
  ret i32 %common.ret.op

B684:                                             ; preds = %B34.backedge, %entry
  store ptr null, ptr %retptr, align 8
  br label %common.ret

B36.if:                                           ; preds = %B34.backedge, %B36.if.lr.ph
  %.106.0 = phi i64 [ 0, %B36.if.lr.ph ], [ %.178, %B34.backedge ]
  %12 = icmp slt i64 %arg.parts, 1
  %.178 = add nuw nsw i64 %.106.0, 1
  br i1 %12, label %B266, label %B74.if.lr.ph

B74.if.lr.ph:                                     ; preds = %B36.if
  %.335 = mul nuw nsw i64 %.106.0, %arg.parts
  br label %B74.if

B74.if:                                           ; preds = %B74.if.lr.ph, %B264
  %.234.0 = phi i64 [ 0, %B74.if.lr.ph ], [ %.303, %B264 ]
  %point.2.1280 = phi ptr [ %arg.head, %B74.if.lr.ph ], [ %point.3.2, %B264 ]
  %.303 = add nuw nsw i64 %.234.0, 1
  %.336 = add nuw nsw i64 %.234.0, %.335
  %.338 = mul nsw i64 %.336, %arg.size
  store ptr null, ptr %.353, align 8
  %.357 = call i32 @slope(ptr nonnull %.353, ptr nonnull %excinfo.1, ptr %arg.x, ptr %arg.y, ptr %arg.batches, i64 %.338, i64 %arg.size, ptr %point.2.1280, ptr %arg.class_weights, float %arg.l2, ptr %arg.images, ptr %arg.scores, ptr %arg.gradient, i64 %arg.features, i64 %arg.classes, i64 %arg.rows, i64 %arg.width)
  switch i32 %.357, label %B76.if [
    i32 -2, label %B76.endif
    i32 0, label %B76.endif
  ], !prof !2

B76.if:                                           ; preds = %B74.if
  %.365 = icmp sgt i32 %.357, 0
  %.358 = load ptr, ptr %excinfo.1, align 8
  %.366 = select i1 %.365, ptr %.358, ptr undef
  store ptr %.366, ptr %excinfo, align 8
  br label %common.ret

B76.endif:                                        ; preds = %B74.if, %B74.if
  %13 = icmp slt i64 %.387, 1
  %.381 = icmp sge i64 %.303, %arg.parts
  %brmerge = select i1 %.381, i1 true, i1 %13
  %point.2.1280.mux = select i1 %.381, ptr %point.2.1280, ptr %arg.ahead
  br i1 %brmerge, label %B264, label %B208.if.preheader

B208.if.preheader:                                ; preds = %B76.endif
  %14 = icmp eq i64 %0, 0
  br i1 %14, label %B208.if.epil.preheader, label %B208.if.preheader29

B208.if.preheader29:                              ; preds = %B208.if.preheader
  br label %B208.if

B208.if:                                          ; preds = %B208.if, %B208.if.preheader29
  %.473273275 = phi i64 [ %.480.1, %B208.if ], [ 0, %B208.if.preheader29 ]
  %sunkaddr = mul i64 %.473273275, 4
  %sunkaddr77 = getelementptr i8, ptr %arg.head, i64 %sunkaddr
  %.507 = load float, ptr %sunkaddr77, align 4
  %sunkaddr78 = mul i64 %.473273275, 4
  %sunkaddr79 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr78
  %.510 = load float, ptr %sunkaddr79, align 4
  %.512 = fmul reassoc nsz contract float %.510, %arg.inner_rate
  %.513 = fsub reassoc nsz contract float %.507, %.512
  %15 = shl i64 %.473273275, 2
  %scevgep41 = getelementptr i8, ptr %arg.ahead, i64 %15
  store float %.513, ptr %scevgep41, align 4
  %.480.1 = add nuw i64 %.473273275, 2
  %sunkaddr80 = mul i64 %.473273275, 4
  %sunkaddr81 = getelementptr i8, ptr %arg.head, i64 %sunkaddr80
  %sunkaddr82 = getelementptr i8, ptr %sunkaddr81, i64 4
  %.507.1 = load float, ptr %sunkaddr82, align 4
  %sunkaddr83 = mul i64 %.473273275, 4
  %sunkaddr84 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr83
  %sunkaddr85 = getelementptr i8, ptr %sunkaddr84, i64 4
  %.510.1 = load float, ptr %sunkaddr85, align 4
  %.512.1 = fmul reassoc nsz contract float %.510.1, %arg.inner_rate
  %.513.1 = fsub reassoc nsz contract float %.507.1, %.512.1
  %16 = shl i64 %.473273275, 2
  %scevgep39 = getelementptr i8, ptr %arg.ahead, i64 %16
  %scevgep40 = getelementptr i8, ptr %scevgep39, i64 4
  store float %.513.1, ptr %scevgep40, align 4
  %niter.ncmp.1 = icmp eq i64 %unroll_iter, %.480.1
  br i1 %niter.ncmp.1, label %B264.loopexit.unr-lcssa, label %B208.if

B306.if:                                          ; preds = %B306.if, %B306.if.preheader31
  %.629283285 = phi i64 [ %.636.1, %B306.if ], [ 0, %B306.if.preheader31 ]
  %sunkaddr86 = mul i64 %.629283285, 4
  %sunkaddr87 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr86
  %.663 = load float, ptr %sunkaddr87, align 4
  %sunkaddr88 = mul i64 %.629283285, 4
  %sunkaddr89 = getelementptr i8, ptr %arg.head, i64 %sunkaddr88
  %.666 = load float, ptr %sunkaddr89, align 4
  %sunkaddr90 = mul i64 %.629283285, 4
  %sunkaddr91 = getelementptr i8, ptr %arg.anchor, i64 %sunkaddr90
  %.669 = load float, ptr %sunkaddr91, align 4
  %.670 = fsub reassoc nsz contract float %.666, %.669
  %.672 = fmul reassoc nsz contract float %.670, %arg.proximal
  %.673 = fadd reassoc nsz contract float %.672, %.663
  store float %.673, ptr %sunkaddr87, align 4
  %.636.1 = add nuw i64 %.629283285, 2
  %sunkaddr92 = mul i64 %.629283285, 4
  %sunkaddr93 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr92
  %sunkaddr94 = getelementptr i8, ptr %sunkaddr93, i64 4
  %.663.1 = load float, ptr %sunkaddr94, align 4
  %sunkaddr95 = mul i64 %.629283285, 4
  %sunkaddr96 = getelementptr i8, ptr %arg.head, i64 %sunkaddr95
  %sunkaddr97 = getelementptr i8, ptr %sunkaddr96, i64 4
  %.666.1 = load float, ptr %sunkaddr97, align 4
  %sunkaddr98 = mul i64 %.629283285, 4
  %sunkaddr99 = getelementptr i8, ptr %arg.anchor, i64 %sunkaddr98
  %sunkaddr100 = getelementptr i8, ptr %sunkaddr99, i64 4
  %.669.1 = load float, ptr %sunkaddr100, align 4
  %.670.1 = fsub reassoc nsz contract float %.666.1, %.669.1
  %.672.1 = fmul reassoc nsz contract float %.670.1, %arg.proximal
  %.673.1 = fadd reassoc nsz contract float %.672.1, %.663.1
  store float %.673.1, ptr %sunkaddr94, align 4
  %niter18.ncmp.1 = icmp eq i64 %unroll_iter, %.636.1
  br i1 %niter18.ncmp.1, label %B380.loopexit.unr-lcssa, label %B306.if

B416.if:                                          ; preds = %B416.if, %B416.if.preheader30
  %.770290292 = phi i64 [ %.777.3, %B416.if ], [ 0, %B416.if.preheader30 ]
  %sunkaddr101 = mul i64 %.770290292, 4
  %sunkaddr102 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr101
  %.804 = load float, ptr %sunkaddr102, align 4
  %sunkaddr103 = mul i64 %.770290292, 4
  %sunkaddr104 = getelementptr i8, ptr %arg.correction, i64 %sunkaddr103
  %.807 = load float, ptr %sunkaddr104, align 4
  %.808 = fadd reassoc nsz contract float %.807, %.804
  store float %.808, ptr %sunkaddr102, align 4
  %sunkaddr105 = mul i64 %.770290292, 4
  %sunkaddr106 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr105
  %sunkaddr107 = getelementptr i8, ptr %sunkaddr106, i64 4
  %.804.1 = load float, ptr %sunkaddr107, align 4
  %sunkaddr108 = mul i64 %.770290292, 4
  %sunkaddr109 = getelementptr i8, ptr %arg.correction, i64 %sunkaddr108
  %sunkaddr110 = getelementptr i8, ptr %sunkaddr109, i64 4
  %.807.1 = load float, ptr %sunkaddr110, align 4
  %.808.1 = fadd reassoc nsz contract float %.807.1, %.804.1
  store float %.808.1, ptr %sunkaddr107, align 4
  %sunkaddr111 = mul i64 %.770290292, 4
  %sunkaddr112 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr111
  %sunkaddr113 = getelementptr i8, ptr %sunkaddr112, i64 8
  %.804.2 = load float, ptr %sunkaddr113, align 4
  %sunkaddr114 = mul i64 %.770290292, 4
  %sunkaddr115 = getelementptr i8, ptr %arg.correction, i64 %sunkaddr114
  %sunkaddr116 = getelementptr i8, ptr %sunkaddr115, i64 8
  %.807.2 = load float, ptr %sunkaddr116, align 4
  %.808.2 = fadd reassoc nsz contract float %.807.2, %.804.2
  store float %.808.2, ptr %sunkaddr113, align 4
  %.777.3 = add nuw i64 %.770290292, 4
  %sunkaddr117 = mul i64 %.770290292, 4
  %sunkaddr118 = getelementptr i8, ptr %arg.gradient, i64 %sunkaddr117
  %sunkaddr119 = getelementptr i8, ptr %sunkaddr118, i64 12
  %.804.3 = load float, ptr %sunkaddr119, align 4
  %sunkaddr120 = mul i64 %.770290292, 4
  %sunkaddr121 = getelementptr i8, ptr %arg.correction, i64 %sunkaddr120
  %sunkaddr122 = getelementptr i8, ptr %sunkaddr121, i64 12
  %.807.3 = load float, ptr %sunkaddr122, align 4
  %.808.3 = fadd reassoc nsz contract float %.807.3, %.804.3
  store float %.808.3, ptr %sunkaddr119, align 4
  %niter23.ncmp.3 = icmp eq i64 %unroll_iter22, %.777.3
  br i1 %niter23.ncmp.3, label %B466.loopexit.unr-lcssa, label %B416.if

B500.if:                                          ; preds = %B500.loopexit, %B500.if.preheader
  %.906304310 = phi i64 [ %.913, %B500.loopexit ], [ 0, %B500.if.preheader ]
  %17 = icmp slt i64 %arg.features, 1
  %.913 = add nuw nsw i64 %.906304310, 1
  br i1 %17, label %B500.loopexit, label %B554.if.preheader

B554.if.preheader:                                ; preds = %B500.if
  %18 = and i64 %.arg.features, 1
  %19 = icmp eq i64 %18, 0
  %.939 = mul nsw i64 %.906304310, %arg.width
  br i1 %19, label %B554.if.prol.loopexit, label %B554.if.prol

B554.if.prol:                                     ; preds = %B554.if.preheader
  %.1036.prol = add i64 %.939, 1
  %.1062.prol = getelementptr float, ptr %arg.head, i64 %.939
  %.1063.prol = load float, ptr %.1062.prol, align 4
  %.1070.prol = fmul reassoc nsz contract float %.1066, %.1063.prol
  %.1071.prol = fsub reassoc nsz contract float %.1063.prol, %.1070.prol
  store float %.1071.prol, ptr %.1062.prol, align 4
  br label %B554.if.prol.loopexit

B554.if.prol.loopexit:                            ; preds = %B554.if.prol, %B554.if.preheader
  %.1022296300.unr = phi i64 [ %.arg.features, %B554.if.preheader ], [ %.1032.prol, %B554.if.prol ]
  %.1029297299.unr = phi i64 [ %.939, %B554.if.preheader ], [ %.1036.prol, %B554.if.prol ]
  %20 = icmp eq i64 %arg.features, 1
  br i1 %20, label %B500.loopexit, label %B554.if.preheader28

B554.if.preheader28:                              ; preds = %B554.if.prol.loopexit
  %21 = add i64 %.1022296300.unr, 2
  %22 = shl i64 %.1029297299.unr, 2
  %scevgep73 = getelementptr i8, ptr %scevgep72, i64 %22
  br label %B554.if

B554.if:                                          ; preds = %B554.if, %B554.if.preheader28
  %lsr.iv74 = phi ptr [ %scevgep73, %B554.if.preheader28 ], [ %scevgep75, %B554.if ]
  %lsr.iv = phi i64 [ %21, %B554.if.preheader28 ], [ %lsr.iv.next, %B554.if ]
  %scevgep76 = getelementptr i8, ptr %lsr.iv74, i64 -4
  %.1063 = load float, ptr %scevgep76, align 4
  %.1070 = fmul reassoc nsz contract float %.1066, %.1063
  %.1071 = fsub reassoc nsz contract float %.1063, %.1070
  store float %.1071, ptr %scevgep76, align 4
  %.1063.1 = load float, ptr %lsr.iv74, align 4
  %.1070.1 = fmul reassoc nsz contract float %.1066, %.1063.1
  %.1071.1 = fsub reassoc nsz contract float %.1063.1, %.1070.1
  store float %.1071.1, ptr %lsr.iv74, align 4
  %lsr.iv.next = add i64 %lsr.iv, -2
  %scevgep75 = getelementptr i8, ptr %lsr.iv74, i64 8
  %.1023.1 = icmp sgt i64 %lsr.iv.next, 2
  br i1 %.1023.1, label %B554.if, label %B500.loopexit

B618.if:                                          ; preds = %B618
  store ptr null, ptr %excinfo, align 8
  br label %common.ret
}

; Function Attrs: nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none)
declare i64 @llvm.smax.i64(i64, i64) #1

; Function Attrs: nofree norecurse nosync nounwind memory(argmem: readwrite)
define internal noundef i32 @slope(ptr noalias writeonly captures(none) %retptr, ptr noalias writeonly captures(none) %excinfo, ptr readonly captures(none) %arg.x, ptr readonly captures(none) %arg.y, ptr readonly captures(none) %arg.batches, i64 %arg.begin, i64 %arg.size, ptr readonly captures(none) %arg.head, ptr readonly captures(none) %arg.class_weights, float %arg.l2, ptr captures(none) %arg.images, ptr captures(none) %arg.scores, ptr captures(none) %arg.gradient, i64 %arg.features, i64 %arg.classes, i64 %arg.rows, i64 %arg.width) local_unnamed_addr #2 {
entry:
  %.729 = alloca ptr, align 8
  store ptr null, ptr %.729, align 8
  %excinfo.3 = alloca ptr, align 8
  store ptr null, ptr %excinfo.3, align 8
  %.760 = alloca ptr, align 8
  store ptr null, ptr %.760, align 8
  %excinfo.4 = alloca ptr, align 8
  store ptr null, ptr %excinfo.4, align 8
  %.790 = alloca ptr, align 8
  store ptr null, ptr %.790, align 8
  %excinfo.5 = alloca ptr, align 8
  store ptr null, ptr %excinfo.5, align 8
  %.58 = icmp sgt i64 %arg.size, 0
  br i1 %.58, label %B20, label %B102

B20:                                              ; preds = %entry
  %.73 = getelementptr i32, ptr %arg.batches, i64 %arg.begin
  %.74 = load i32, ptr %.73, align 4
  %.76 = icmp sgt i32 %.74, -1
  br i1 %.76, label %B50.preheader, label %B102

B50.preheader:                                    ; preds = %B20
  %0 = shl i64 %arg.begin, 2
  %1 = getelementptr i8, ptr %arg.batches, i64 %0
  %scevgep95 = getelementptr i8, ptr %1, i64 4
  %2 = add i64 %arg.size, -1
  br label %B50

B50:                                              ; preds = %B72, %B50.preheader
  %n.2.1 = phi i64 [ %.82, %B72 ], [ 0, %B50.preheader ]
  %exitcond.not = icmp eq i64 %2, %n.2.1
  br i1 %exitcond.not, label %B102, label %B72

B72:                                              ; preds = %B50
  %.82 = add nuw nsw i64 %n.2.1, 1
  %3 = shl i64 %n.2.1, 2
  %scevgep96 = getelementptr i8, ptr %scevgep95, i64 %3
  %.108 = load i32, ptr %scevgep96, align 4
  %.110 = icmp sgt i32 %.108, -1
  br i1 %.110, label %B50, label %B102

B102:                                             ; preds = %B72, %B50, %B20, %entry
  %n.3.0 = phi i64 [ 0, %B20 ], [ 0, %entry ], [ %arg.size, %B50 ], [ %.82, %B72 ]
  %.207231.not = icmp slt i64 %arg.rows, 1
  br i1 %.207231.not, label %B350, label %B132.if.lr.ph

B132.if.lr.ph:                                    ; preds = %B102
  %.arg.width = tail call i64 @llvm.smax.i64(i64 %arg.width, i64 0)
  %.383 = fcmp reassoc nsz contract oeq float %arg.l2, 0.000000e+00
  %.arg.features = tail call i64 @llvm.smax.i64(i64 %arg.features, i64 0)
  %.474214.not257 = icmp slt i64 %arg.features, 1
  %.514 = fmul reassoc nsz contract float %arg.l2, 2.000000e+00
  %4 = shl i64 %arg.width, 2
  %5 = shl nuw i64 %.arg.width, 2
  %brmerge = select i1 %.383, i1 true, i1 %.474214.not257
  %6 = add nsw i64 %.arg.features, -1
  %xtraiter = and i64 %.arg.features, 3
  br label %B132.if

B228:                                             ; preds = %B186.if.preheader, %B132.if
  br i1 %brmerge, label %B348, label %B282.if.preheader

B282.if.preheader:                                ; preds = %B228
  %7 = icmp eq i64 %xtraiter, 0
  br i1 %7, label %B282.if.prol.loopexit, label %B282.if.prol.preheader

B282.if.prol.preheader:                           ; preds = %B282.if.preheader
  br label %B282.if.prol

B282.if.prol:                                     ; preds = %B282.if.prol, %B282.if.prol.preheader
  %prol.iter = phi i64 [ %prol.iter.next, %B282.if.prol ], [ 0, %B282.if.prol.preheader ]
  %8 = shl nuw nsw i64 %prol.iter, 2
  %scevgep27 = getelementptr i8, ptr %lsr.iv72, i64 %8
  %.517.prol = load float, ptr %scevgep27, align 4
  %.518.prol = fmul reassoc nsz contract float %.517.prol, %.514
  %9 = shl nuw nsw i64 %prol.iter, 2
  %scevgep26 = getelementptr i8, ptr %lsr.iv69, i64 %9
  store float %.518.prol, ptr %scevgep26, align 4
  %prol.iter.next = add nuw nsw i64 %prol.iter, 1
  %prol.iter.cmp.not = icmp eq i64 %xtraiter, %prol.iter.next
  br i1 %prol.iter.cmp.not, label %B282.if.prol.loopexit.loopexit, label %B282.if.prol, !llvm.loop !3

B282.if.prol.loopexit.loopexit:                   ; preds = %B282.if.prol
  %10 = sub i64 %.arg.features, %prol.iter.next
  %11 = mul i64 %lsr.iv75, -1
  %12 = add i64 %11, %prol.iter.next
  br label %B282.if.prol.loopexit

B282.if.prol.loopexit:                            ; preds = %B282.if.prol.loopexit.loopexit, %B282.if.preheader
  %.473212216.unr = phi i64 [ %.arg.features, %B282.if.preheader ], [ %10, %B282.if.prol.loopexit.loopexit ]
  %.480213215.unr = phi i64 [ %.250, %B282.if.preheader ], [ %12, %B282.if.prol.loopexit.loopexit ]
  %13 = icmp ult i64 %6, 3
  br i1 %13, label %B348, label %B282.if.preheader38

B282.if.preheader38:                              ; preds = %B282.if.prol.loopexit
  %14 = add i64 %.473212216.unr, 4
  %15 = shl i64 %.480213215.unr, 2
  %16 = add i64 %15, 12
  br label %B282.if

B348:                                             ; preds = %B282.if, %B282.if.prol.loopexit, %B228
  %scevgep70 = getelementptr i8, ptr %lsr.iv69, i64 %4
  %scevgep73 = getelementptr i8, ptr %lsr.iv72, i64 %4
  %lsr.iv.next76 = sub i64 %lsr.iv75, %arg.width
  %exitcond274.not = icmp eq i64 %.220, %arg.rows
  br i1 %exitcond274.not, label %B350, label %B132.if

B350:                                             ; preds = %B348, %B102
  %17 = add nuw i64 %n.3.0, 31
  %.595 = lshr i64 %17, 5
  %.574.inv = icmp slt i64 %n.3.0, 1
  %.616252.not258 = icmp eq i64 %.595, 0
  %.616252.not = select i1 %.574.inv, i1 true, i1 %.616252.not258
  br i1 %.616252.not, label %common.ret, label %B394.if.lr.ph

B394.if.lr.ph:                                    ; preds = %B350
  %.688 = uitofp nneg i64 %n.3.0 to float
  %.692 = fdiv reassoc nsz contract float 1.000000e+00, %.688
  %invariant.gep.i = getelementptr float, ptr %arg.images, i64 %arg.features
  %xtraiter.i = and i64 %arg.features, 3
  %unroll_iter.i = and i64 %arg.features, 9223372036854775804
  %scevgep3.i = getelementptr i8, ptr %arg.x, i64 12
  %18 = shl i64 %arg.features, 2
  %scevgep12.i = getelementptr i8, ptr %arg.images, i64 12
  %19 = shl i64 %arg.width, 2
  %20 = add nsw i64 %unroll_iter.i, -4
  %21 = lshr i64 %20, 2
  %22 = add nuw nsw i64 %21, 1
  %scevgep39 = getelementptr i8, ptr %arg.x, i64 28
  %23 = lshr i64 %22, 1
  %24 = mul nsw i64 %23, -2
  br label %B394.if

common.ret:                                       ; preds = %B394.backedge, %B396.endif.endif.endif.endif.endif, %B396.endif.endif.endif.endif, %B396.endif.endif.endif, %B350
  %excinfo.sink = phi ptr [ %retptr, %B350 ], [ %excinfo, %B396.endif.endif.endif.endif ], [ %excinfo, %B396.endif.endif.endif ], [ %retptr, %B394.backedge ], [ %excinfo, %B396.endif.endif.endif.endif.endif ]
  %common.ret.op = phi i32 [ 0, %B350 ], [ %.764, %B396.endif.endif.endif.endif ], [ %.733, %B396.endif.endif.endif ], [ 0, %B394.backedge ], [ %.794, %B396.endif.endif.endif.endif.endif ]
  store ptr null, ptr %excinfo.sink, align 8
  ret i32 %common.ret.op

B132.if:                                          ; preds = %B348, %B132.if.lr.ph
  %lsr.iv75 = phi i64 [ 0, %B132.if.lr.ph ], [ %lsr.iv.next76, %B348 ]
  %lsr.iv72 = phi ptr [ %arg.head, %B132.if.lr.ph ], [ %scevgep73, %B348 ]
  %lsr.iv69 = phi ptr [ %arg.gradient, %B132.if.lr.ph ], [ %scevgep70, %B348 ]
  %.213220234 = phi i64 [ 0, %B132.if.lr.ph ], [ %.220, %B348 ]
  %25 = icmp slt i64 %arg.width, 1
  %.220 = add nuw nsw i64 %.213220234, 1
  %.250 = mul nsw i64 %.213220234, %arg.width
  br i1 %25, label %B228, label %B186.if.preheader

B186.if.preheader:                                ; preds = %B132.if
  %26 = mul i64 %.213220234, %4
  %scevgep = getelementptr i8, ptr %arg.gradient, i64 %26
  tail call void @llvm.memset.p0.i64(ptr align 4 %scevgep, i8 0, i64 %5, i1 false)
  br label %B228

B282.if:                                          ; preds = %B282.if, %B282.if.preheader38
  %lsr.iv79 = phi i64 [ %16, %B282.if.preheader38 ], [ %lsr.iv.next80, %B282.if ]
  %lsr.iv77 = phi i64 [ %14, %B282.if.preheader38 ], [ %lsr.iv.next78, %B282.if ]
  %scevgep91 = getelementptr i8, ptr %arg.head, i64 %lsr.iv79
  %scevgep92 = getelementptr i8, ptr %scevgep91, i64 -12
  %.517 = load float, ptr %scevgep92, align 4
  %.518 = fmul reassoc nsz contract float %.517, %.514
  %scevgep84 = getelementptr i8, ptr %arg.gradient, i64 %lsr.iv79
  %scevgep85 = getelementptr i8, ptr %scevgep84, i64 -12
  store float %.518, ptr %scevgep85, align 4
  %scevgep34 = getelementptr i8, ptr %arg.head, i64 %lsr.iv79
  %scevgep35 = getelementptr i8, ptr %scevgep34, i64 -8
  %.517.1 = load float, ptr %scevgep35, align 4
  %.518.1 = fmul reassoc nsz contract float %.517.1, %.514
  %scevgep30 = getelementptr i8, ptr %arg.gradient, i64 %lsr.iv79
  %scevgep31 = getelementptr i8, ptr %scevgep30, i64 -8
  store float %.518.1, ptr %scevgep31, align 4
  %scevgep32 = getelementptr i8, ptr %arg.head, i64 %lsr.iv79
  %scevgep33 = getelementptr i8, ptr %scevgep32, i64 -4
  %.517.2 = load float, ptr %scevgep33, align 4
  %.518.2 = fmul reassoc nsz contract float %.517.2, %.514
  %scevgep28 = getelementptr i8, ptr %arg.gradient, i64 %lsr.iv79
  %scevgep29 = getelementptr i8, ptr %scevgep28, i64 -4
  store float %.518.2, ptr %scevgep29, align 4
  %.517.3 = load float, ptr %scevgep91, align 4
  %.518.3 = fmul reassoc nsz contract float %.517.3, %.514
  store float %.518.3, ptr %scevgep84, align 4
  %lsr.iv.next78 = add i64 %lsr.iv77, -4
  %lsr.iv.next80 = add i64 %lsr.iv79, 16
  %.474.3 = icmp sgt i64 %lsr.iv.next78, 4
  br i1 %.474.3, label %B282.if, label %B348

B394.if:                                          ; preds = %B394.backedge, %B394.if.lr.ph
  %.615242254 = phi i64 [ %.595, %B394.if.lr.ph ], [ %.625, %B394.backedge ]
  %.622247253 = phi i64 [ 0, %B394.if.lr.ph ], [ %.629, %B394.backedge ]
  %.625 = add nsw i64 %.615242254, -1
  %.629 = add nuw i64 %.622247253, 32
  %.655 = sub nsw i64 %n.3.0, %.622247253
  %.11.i = tail call i64 @llvm.smin.i64(i64 %.655, i64 32)
  %.685 = add nsw i64 %.622247253, %arg.begin
  %.107134.not.i = icmp slt i64 %.655, 1
  br i1 %.107134.not.i, label %B192.i, label %B34.if.lr.ph.i

B34.if.lr.ph.i:                                   ; preds = %B394.if
  %27 = getelementptr i32, ptr %arg.batches, i64 %.685
  br label %B34.if.i

B142.loopexit.unr-lcssa.i.unr-lcssa:              ; preds = %B96.if.i
  %28 = and i64 %20, 4
  %29 = icmp eq i64 %28, 0
  br i1 %29, label %B96.if.i.epil.preheader, label %B142.loopexit.unr-lcssa.i

B96.if.i.epil.preheader:                          ; preds = %B96.if.preheader.i, %B142.loopexit.unr-lcssa.i.unr-lcssa
  %.246123125.i.epil.init = phi i64 [ 0, %B96.if.preheader.i ], [ %.253.3.i.1, %B142.loopexit.unr-lcssa.i.unr-lcssa ]
  %30 = shl i64 %.246123125.i.epil.init, 2
  %scevgep10.i.epil = getelementptr i8, ptr %scevgep4.i, i64 %30
  %scevgep11.i.epil = getelementptr i8, ptr %scevgep10.i.epil, i64 -12
  %.282.i.epil = load float, ptr %scevgep11.i.epil, align 4, !noalias !4
  %scevgep19.i.epil = getelementptr i8, ptr %lsr.iv.i, i64 %30
  %scevgep20.i.epil = getelementptr i8, ptr %scevgep19.i.epil, i64 -12
  store float %.282.i.epil, ptr %scevgep20.i.epil, align 4, !noalias !4
  %scevgep9.i.epil = getelementptr i8, ptr %scevgep10.i.epil, i64 -8
  %.282.1.i.epil = load float, ptr %scevgep9.i.epil, align 4, !noalias !4
  %scevgep18.i.epil = getelementptr i8, ptr %scevgep19.i.epil, i64 -8
  store float %.282.1.i.epil, ptr %scevgep18.i.epil, align 4, !noalias !4
  %scevgep7.i.epil = getelementptr i8, ptr %scevgep10.i.epil, i64 -4
  %.282.2.i.epil = load float, ptr %scevgep7.i.epil, align 4, !noalias !4
  %scevgep16.i.epil = getelementptr i8, ptr %scevgep19.i.epil, i64 -4
  store float %.282.2.i.epil, ptr %scevgep16.i.epil, align 4, !noalias !4
  %.253.3.i.epil = add nuw nsw i64 %.246123125.i.epil.init, 4
  %.282.3.i.epil = load float, ptr %scevgep10.i.epil, align 4, !noalias !4
  store float %.282.3.i.epil, ptr %scevgep19.i.epil, align 4, !noalias !4
  br label %B142.loopexit.unr-lcssa.i

B142.loopexit.unr-lcssa.i:                        ; preds = %B96.if.i.epil.preheader, %B142.loopexit.unr-lcssa.i.unr-lcssa
  %.253.3.i.lcssa = phi i64 [ %.253.3.i.epil, %B96.if.i.epil.preheader ], [ %.253.3.i.1, %B142.loopexit.unr-lcssa.i.unr-lcssa ]
  %31 = icmp eq i64 %xtraiter.i, 0
  br i1 %31, label %B142.i, label %B96.if.epil.preheader.i

B96.if.epil.preheader.i:                          ; preds = %B96.if.lr.ph.i, %B142.loopexit.unr-lcssa.i
  %.246123125.epil.init.i = phi i64 [ 0, %B96.if.lr.ph.i ], [ %.253.3.i.lcssa, %B142.loopexit.unr-lcssa.i ]
  %32 = shl i64 %.246123125.epil.init.i, 2
  %scevgep23.i = getelementptr i8, ptr %lsr.iv21.i, i64 %32
  %33 = mul i64 %18, %.155.i
  %34 = getelementptr i8, ptr %arg.x, i64 %33
  %scevgep25.i = getelementptr i8, ptr %34, i64 %32
  br label %B96.if.epil.i

B96.if.epil.i:                                    ; preds = %B96.if.epil.i, %B96.if.epil.preheader.i
  %epil.iter.i = phi i64 [ 0, %B96.if.epil.preheader.i ], [ %epil.iter.next.i, %B96.if.epil.i ]
  %35 = shl i64 %epil.iter.i, 2
  %scevgep68 = getelementptr i8, ptr %scevgep25.i, i64 %35
  %.282.epil.i = load float, ptr %scevgep68, align 4, !noalias !4
  %scevgep67 = getelementptr i8, ptr %scevgep23.i, i64 %35
  store float %.282.epil.i, ptr %scevgep67, align 4, !noalias !4
  %epil.iter.next.i = add i64 %epil.iter.i, 1
  %epil.iter.cmp.not.i = icmp eq i64 %xtraiter.i, %epil.iter.next.i
  br i1 %epil.iter.cmp.not.i, label %B142.i, label %B96.if.epil.i, !llvm.loop !7

B142.i:                                           ; preds = %B34.if.i, %B96.if.epil.i, %B142.loopexit.unr-lcssa.i
  %.300.i = mul nsw i64 %.113129135.i, %arg.width
  %gep.i = getelementptr float, ptr %invariant.gep.i, i64 %.300.i
  store float 1.000000e+00, ptr %gep.i, align 4, !noalias !4
  %scevgep13.i = getelementptr i8, ptr %lsr.iv.i, i64 %19
  %scevgep22.i = getelementptr i8, ptr %lsr.iv21.i, i64 %19
  %exitcond148.not.i = icmp eq i64 %.120.i, %.11.i
  br i1 %exitcond148.not.i, label %B192.i, label %B34.if.i

B192.i:                                           ; preds = %B142.i, %B394.if
  %.325.i = add nsw i64 %.11.i, 3
  %.368.i = and i64 %.325.i, -4
  %.370119.i = sub i64 %.368.i, %.11.i
  %.409.i = mul i64 %.370119.i, %arg.width
  %.452143.not.i = icmp slt i64 %.409.i, 1
  br i1 %.452143.not.i, label %B396.endif.endif.endif, label %B254.if.preheader.i

B254.if.preheader.i:                              ; preds = %B192.i
  %36 = mul i64 %.11.i, %19
  %scevgep.i = getelementptr i8, ptr %arg.images, i64 %36
  %37 = shl nuw i64 %.409.i, 2
  tail call void @llvm.memset.p0.i64(ptr align 4 %scevgep.i, i8 0, i64 %37, i1 false), !noalias !4
  br label %B396.endif.endif.endif

B34.if.i:                                         ; preds = %B142.i, %B34.if.lr.ph.i
  %lsr.iv21.i = phi ptr [ %arg.images, %B34.if.lr.ph.i ], [ %scevgep22.i, %B142.i ]
  %lsr.iv.i = phi ptr [ %scevgep12.i, %B34.if.lr.ph.i ], [ %scevgep13.i, %B142.i ]
  %.113129135.i = phi i64 [ 0, %B34.if.lr.ph.i ], [ %.120.i, %B142.i ]
  %38 = icmp slt i64 %arg.features, 1
  %.120.i = add nuw nsw i64 %.113129135.i, 1
  br i1 %38, label %B142.i, label %B96.if.lr.ph.i

B96.if.lr.ph.i:                                   ; preds = %B34.if.i
  %39 = icmp ult i64 %arg.features, 4
  %.152.i = getelementptr i32, ptr %27, i64 %.113129135.i
  %.153.i = load i32, ptr %.152.i, align 4, !noalias !4
  %.155.i = sext i32 %.153.i to i64
  br i1 %39, label %B96.if.epil.preheader.i, label %B96.if.preheader.i

B96.if.preheader.i:                               ; preds = %B96.if.lr.ph.i
  %40 = icmp eq i64 %20, 0
  %41 = mul i64 %18, %.155.i
  %scevgep4.i = getelementptr i8, ptr %scevgep3.i, i64 %41
  br i1 %40, label %B96.if.i.epil.preheader, label %B96.if.i.preheader

B96.if.i.preheader:                               ; preds = %B96.if.preheader.i
  %scevgep40 = getelementptr i8, ptr %scevgep39, i64 %41
  br label %B96.if.i

B96.if.i:                                         ; preds = %B96.if.i, %B96.if.i.preheader
  %lsr.iv1 = phi i64 [ %lsr.iv.next2, %B96.if.i ], [ %24, %B96.if.i.preheader ]
  %.246123125.i = phi i64 [ 0, %B96.if.i.preheader ], [ %.253.3.i.1, %B96.if.i ]
  %42 = shl i64 %.246123125.i, 2
  %scevgep47 = getelementptr i8, ptr %scevgep40, i64 %42
  %scevgep48 = getelementptr i8, ptr %scevgep47, i64 -16
  %scevgep53 = getelementptr i8, ptr %scevgep47, i64 -28
  %.282.i = load float, ptr %scevgep53, align 4, !noalias !4
  %scevgep61 = getelementptr i8, ptr %lsr.iv21.i, i64 %42
  %43 = shl i64 %.246123125.i, 2
  %scevgep14 = getelementptr i8, ptr %lsr.iv21.i, i64 %43
  %scevgep15 = getelementptr i8, ptr %scevgep14, i64 12
  store float %.282.i, ptr %scevgep61, align 4, !noalias !4
  %scevgep24 = getelementptr i8, ptr %scevgep40, i64 %43
  %scevgep25 = getelementptr i8, ptr %scevgep24, i64 -24
  %.282.1.i = load float, ptr %scevgep25, align 4, !noalias !4
  %44 = shl i64 %.246123125.i, 2
  %scevgep12 = getelementptr i8, ptr %lsr.iv21.i, i64 %44
  %scevgep13 = getelementptr i8, ptr %scevgep12, i64 4
  store float %.282.1.i, ptr %scevgep13, align 4, !noalias !4
  %scevgep22 = getelementptr i8, ptr %scevgep40, i64 %44
  %scevgep23 = getelementptr i8, ptr %scevgep22, i64 -20
  %.282.2.i = load float, ptr %scevgep23, align 4, !noalias !4
  %45 = shl i64 %.246123125.i, 2
  %scevgep10 = getelementptr i8, ptr %lsr.iv21.i, i64 %45
  %scevgep11 = getelementptr i8, ptr %scevgep10, i64 8
  store float %.282.2.i, ptr %scevgep11, align 4, !noalias !4
  %.282.3.i = load float, ptr %scevgep48, align 4, !noalias !4
  store float %.282.3.i, ptr %scevgep15, align 4, !noalias !4
  %46 = shl i64 %.246123125.i, 2
  %scevgep20 = getelementptr i8, ptr %scevgep40, i64 %46
  %scevgep21 = getelementptr i8, ptr %scevgep20, i64 -12
  %.282.i.1 = load float, ptr %scevgep21, align 4, !noalias !4
  %47 = shl i64 %.246123125.i, 2
  %scevgep7 = getelementptr i8, ptr %lsr.iv21.i, i64 %47
  %scevgep8 = getelementptr i8, ptr %scevgep7, i64 28
  %scevgep9 = getelementptr i8, ptr %scevgep7, i64 16
  store float %.282.i.1, ptr %scevgep9, align 4, !noalias !4
  %48 = shl i64 %.246123125.i, 2
  %scevgep18 = getelementptr i8, ptr %scevgep40, i64 %48
  %scevgep19 = getelementptr i8, ptr %scevgep18, i64 -8
  %.282.1.i.1 = load float, ptr %scevgep19, align 4, !noalias !4
  %49 = shl i64 %.246123125.i, 2
  %scevgep5 = getelementptr i8, ptr %lsr.iv21.i, i64 %49
  %scevgep6 = getelementptr i8, ptr %scevgep5, i64 20
  store float %.282.1.i.1, ptr %scevgep6, align 4, !noalias !4
  %scevgep16 = getelementptr i8, ptr %scevgep40, i64 %49
  %scevgep17 = getelementptr i8, ptr %scevgep16, i64 -4
  %.282.2.i.1 = load float, ptr %scevgep17, align 4, !noalias !4
  %50 = shl i64 %.246123125.i, 2
  %scevgep3 = getelementptr i8, ptr %lsr.iv21.i, i64 %50
  %scevgep4 = getelementptr i8, ptr %scevgep3, i64 24
  store float %.282.2.i.1, ptr %scevgep4, align 4, !noalias !4
  %.253.3.i.1 = add i64 %.246123125.i, 8
  %.282.3.i.1 = load float, ptr %scevgep47, align 4, !noalias !4
  store float %.282.3.i.1, ptr %scevgep8, align 4, !noalias !4
  %lsr.iv.next2 = add i64 %lsr.iv1, 2
  %niter.ncmp.1 = icmp eq i64 %lsr.iv.next2, 0
  br i1 %niter.ncmp.1, label %B142.loopexit.unr-lcssa.i.unr-lcssa, label %B96.if.i

B396.endif.endif.endif:                           ; preds = %B254.if.preheader.i, %B192.i
  store ptr null, ptr %.729, align 8
  %.733 = call i32 @score(ptr nonnull %.729, ptr nonnull %excinfo.3, ptr %arg.images, i64 %.11.i, ptr %arg.head, ptr %arg.scores, i64 %arg.rows, i64 %arg.width)
  switch i32 %.733, label %common.ret [
    i32 -2, label %B396.endif.endif.endif.endif
    i32 0, label %B396.endif.endif.endif.endif
  ], !prof !2

B396.endif.endif.endif.endif:                     ; preds = %B396.endif.endif.endif, %B396.endif.endif.endif
  store ptr null, ptr %.760, align 8
  %.764 = call i32 @differentiate(ptr nonnull %.760, ptr nonnull %excinfo.4, ptr %arg.scores, ptr %arg.y, ptr %arg.batches, i64 %.685, i64 %.11.i, float %.692, ptr %arg.class_weights, i64 %arg.classes, i64 %arg.rows)
  switch i32 %.764, label %common.ret [
    i32 -2, label %B396.endif.endif.endif.endif.endif
    i32 0, label %B396.endif.endif.endif.endif.endif
  ], !prof !2

B396.endif.endif.endif.endif.endif:               ; preds = %B396.endif.endif.endif.endif, %B396.endif.endif.endif.endif
  store ptr null, ptr %.790, align 8
  %.794 = call i32 @add_products(ptr nonnull %.790, ptr nonnull %excinfo.5, ptr %arg.images, i64 %.11.i, ptr %arg.scores, ptr %arg.gradient, i64 %arg.rows, i64 %arg.width)
  switch i32 %.794, label %common.ret [
    i32 -2, label %B394.backedge
    i32 0, label %B394.backedge
  ], !prof !2

B394.backedge:                                    ; preds = %B396.endif.endif.endif.endif.endif, %B396.endif.endif.endif.endif.endif
  %.616 = icmp sgt i64 %.615242254, 1
  br i1 %.616, label %B394.if, label %common.ret
}

; Function Attrs: nocallback nofree nounwind willreturn memory(argmem: write)
declare void @llvm.memset.p0.i64(ptr writeonly captures(none), i8, i64, i1 immarg) #3

; Function Attrs: nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none)
declare i64 @llvm.smin.i64(i64, i64) #1

; Function Attrs: nofree norecurse nosync nounwind memory(argmem: readwrite)
define internal noundef i32 @score(ptr noalias writeonly captures(none) %retptr, ptr noalias readnone captures(none) %excinfo, ptr readonly captures(none) %arg.images, i64 %arg.n, ptr readonly captures(none) %arg.head, ptr writeonly captures(none) %arg.scores, i64 %arg.rows, i64 %arg.width) local_unnamed_addr #2 {
entry:
  %.77 = and i64 %arg.rows, 1
  %.81153 = lshr i64 %arg.rows, 1
  %.83 = add nuw nsw i64 %.81153, %.77
  %.60.inv = icmp slt i64 %arg.rows, 1
  %.105200.not211 = icmp eq i64 %.83, 0
  %.105200.not = select i1 %.60.inv, i1 true, i1 %.105200.not211
  br i1 %.105200.not, label %B896, label %B40.if.lr.ph

B40.if.lr.ph:                                     ; preds = %entry
  %0 = add nuw i64 %arg.n, 3
  %.218 = lshr i64 %0, 2
  %.197.inv = icmp sgt i64 %arg.n, 0
  %storemerge155 = select i1 %.197.inv, i64 %.218, i64 0
  %1 = shl i64 %arg.width, 2
  %scevgep = getelementptr i8, ptr %arg.head, i64 %1
  %2 = shl i64 %arg.width, 3
  %3 = mul i64 %arg.width, 12
  %scevgep9 = getelementptr i8, ptr %arg.images, i64 %3
  %4 = shl i64 %arg.width, 4
  %scevgep13 = getelementptr i8, ptr %arg.images, i64 %2
  %scevgep17 = getelementptr i8, ptr %arg.images, i64 %1
  br label %B40.if

B38.loopexit:                                     ; preds = %B40.if, %B684
  %scevgep7 = getelementptr i8, ptr %lsr.iv, i64 %2
  %scevgep25 = getelementptr i8, ptr %lsr.iv24, i64 %2
  %.105 = icmp sgt i64 %.104192204, 1
  br i1 %.105, label %B40.if, label %B896

B684:                                             ; preds = %B262.if, %B106.if
  %a0.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.471, %B262.if ]
  %a1.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.486, %B262.if ]
  %a2.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.501, %B262.if ]
  %a3.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.516, %B262.if ]
  %b0.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.531, %B262.if ]
  %b1.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.546, %B262.if ]
  %b2.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.561, %B262.if ]
  %b3.2.2.lcssa = phi float [ 0.000000e+00, %B106.if ], [ %.576, %B262.if ]
  %.594 = mul nsw i64 %.246180186, %arg.rows
  %.600 = mul nsw i64 %.285, %arg.rows
  %.606 = mul nsw i64 %.289, %arg.rows
  %.614 = mul nsw i64 %.293, %arg.rows
  %gep = getelementptr float, ptr %invariant.gep, i64 %.594
  store float %a0.2.2.lcssa, ptr %gep, align 4
  %gep2 = getelementptr float, ptr %invariant.gep, i64 %.600
  store float %a1.2.2.lcssa, ptr %gep2, align 4
  %gep4 = getelementptr float, ptr %invariant.gep, i64 %.606
  store float %a2.2.2.lcssa, ptr %gep4, align 4
  %gep6 = getelementptr float, ptr %invariant.gep, i64 %.614
  store float %a3.2.2.lcssa, ptr %gep6, align 4
  %.679 = getelementptr i8, ptr %gep, i64 4
  store float %b0.2.2.lcssa, ptr %.679, align 4
  %.683 = getelementptr i8, ptr %gep2, i64 4
  store float %b1.2.2.lcssa, ptr %.683, align 4
  %.687 = getelementptr i8, ptr %gep4, i64 4
  store float %b2.2.2.lcssa, ptr %.687, align 4
  %.691 = getelementptr i8, ptr %gep6, i64 4
  store float %b3.2.2.lcssa, ptr %.691, align 4
  %scevgep11 = getelementptr i8, ptr %lsr.iv10, i64 %4
  %scevgep15 = getelementptr i8, ptr %lsr.iv14, i64 %4
  %scevgep19 = getelementptr i8, ptr %lsr.iv18, i64 %4
  %scevgep22 = getelementptr i8, ptr %lsr.iv21, i64 %4
  %.240 = icmp sgt i64 %.239179187, 1
  br i1 %.240, label %B106.if, label %B38.loopexit

B896:                                             ; preds = %B38.loopexit, %entry
  store ptr null, ptr %retptr, align 8
  ret i32 0

B40.if:                                           ; preds = %B38.loopexit, %B40.if.lr.ph
  %lsr.iv24 = phi ptr [ %arg.head, %B40.if.lr.ph ], [ %scevgep25, %B38.loopexit ]
  %lsr.iv = phi ptr [ %scevgep, %B40.if.lr.ph ], [ %scevgep7, %B38.loopexit ]
  %.104192204 = phi i64 [ %.83, %B40.if.lr.ph ], [ %.114, %B38.loopexit ]
  %.111193203 = phi i64 [ 0, %B40.if.lr.ph ], [ %.118, %B38.loopexit ]
  %5 = icmp eq i64 %storemerge155, 0
  %.114 = add nsw i64 %.104192204, -1
  %.118 = add nuw i64 %.111193203, 2
  br i1 %5, label %B38.loopexit, label %B106.if.lr.ph

B106.if.lr.ph:                                    ; preds = %B40.if
  %invariant.gep = getelementptr float, ptr %arg.scores, i64 %.111193203
  br label %B106.if

B106.if:                                          ; preds = %B106.if.lr.ph, %B684
  %lsr.iv21 = phi ptr [ %arg.images, %B106.if.lr.ph ], [ %scevgep22, %B684 ]
  %lsr.iv18 = phi ptr [ %scevgep17, %B106.if.lr.ph ], [ %scevgep19, %B684 ]
  %lsr.iv14 = phi ptr [ %scevgep13, %B106.if.lr.ph ], [ %scevgep15, %B684 ]
  %lsr.iv10 = phi ptr [ %scevgep9, %B106.if.lr.ph ], [ %scevgep11, %B684 ]
  %.239179187 = phi i64 [ %storemerge155, %B106.if.lr.ph ], [ %.249, %B684 ]
  %.246180186 = phi i64 [ 0, %B106.if.lr.ph ], [ %.253, %B684 ]
  %6 = icmp slt i64 %arg.width, 1
  %.249 = add nsw i64 %.239179187, -1
  %.253 = add nuw i64 %.246180186, 4
  %.285 = or disjoint i64 %.246180186, 1
  %.289 = or disjoint i64 %.246180186, 2
  %.293 = or disjoint i64 %.246180186, 3
  br i1 %6, label %B684, label %B262.if.preheader

B262.if.preheader:                                ; preds = %B106.if
  br label %B262.if

B262.if:                                          ; preds = %B262.if, %B262.if.preheader
  %b3.2.2169 = phi float [ %.576, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %b2.2.2168 = phi float [ %.561, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %b1.2.2167 = phi float [ %.546, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %b0.2.2166 = phi float [ %.531, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %a3.2.2165 = phi float [ %.516, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %a2.2.2164 = phi float [ %.501, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %a1.2.2163 = phi float [ %.486, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %a0.2.2162 = phi float [ %.471, %B262.if ], [ 0.000000e+00, %B262.if.preheader ]
  %.427158160 = phi i64 [ %.434, %B262.if ], [ 0, %B262.if.preheader ]
  %.434 = add nuw nsw i64 %.427158160, 1
  %7 = shl i64 %.427158160, 2
  %scevgep26 = getelementptr i8, ptr %lsr.iv24, i64 %7
  %.463 = load float, ptr %scevgep26, align 4
  %scevgep23 = getelementptr i8, ptr %lsr.iv21, i64 %7
  %.468 = load float, ptr %scevgep23, align 4
  %.469 = fmul reassoc nsz contract float %.468, %.463
  %.471 = fadd reassoc nsz contract float %.469, %a0.2.2162
  %8 = shl i64 %.427158160, 2
  %scevgep10 = getelementptr i8, ptr %lsr.iv18, i64 %8
  %.483 = load float, ptr %scevgep10, align 4
  %.484 = fmul reassoc nsz contract float %.483, %.463
  %.486 = fadd reassoc nsz contract float %.484, %a1.2.2163
  %9 = shl i64 %.427158160, 2
  %scevgep8 = getelementptr i8, ptr %lsr.iv14, i64 %9
  %.498 = load float, ptr %scevgep8, align 4
  %.499 = fmul reassoc nsz contract float %.498, %.463
  %.501 = fadd reassoc nsz contract float %.499, %a2.2.2164
  %10 = shl i64 %.427158160, 2
  %scevgep6 = getelementptr i8, ptr %lsr.iv10, i64 %10
  %.513 = load float, ptr %scevgep6, align 4
  %.514 = fmul reassoc nsz contract float %.513, %.463
  %.516 = fadd reassoc nsz contract float %.514, %a3.2.2165
  %11 = shl i64 %.427158160, 2
  %scevgep5 = getelementptr i8, ptr %lsr.iv, i64 %11
  %.523 = load float, ptr %scevgep5, align 4
  %.529 = fmul reassoc nsz contract float %.523, %.468
  %.531 = fadd reassoc nsz contract float %.529, %b0.2.2166
  %.544 = fmul reassoc nsz contract float %.523, %.483
  %.546 = fadd reassoc nsz contract float %.544, %b1.2.2167
  %.559 = fmul reassoc nsz contract float %.523, %.498
  %.561 = fadd reassoc nsz contract float %.559, %b2.2.2168
  %.574 = fmul reassoc nsz contract float %.523, %.513
  %.576 = fadd reassoc nsz contract float %.574, %b3.2.2169
  %exitcond.not = icmp eq i64 %arg.width, %.434
  br i1 %exitcond.not, label %B684, label %B262.if
}

; Function Attrs: nofree norecurse nosync nounwind memory(argmem: readwrite)
define internal noundef i32 @differentiate(ptr noalias writeonly captures(none) %retptr, ptr noalias readnone captures(none) %excinfo, ptr captures(none) %arg.scores, ptr readonly captures(none) %arg.y, ptr readonly captures(none) %arg.batch, i64 %arg.begin, i64 %arg.n, float %arg.share, ptr readonly captures(none) %arg.class_weights, i64 %arg.classes, i64 %arg.rows) local_unnamed_addr #2 {
entry:
  %.114294.not = icmp slt i64 %arg.n, 1
  br i1 %.114294.not, label %B582, label %B36.if.lr.ph

B36.if.lr.ph:                                     ; preds = %entry
  %const = bitcast i64 9223372036854775804 to i64
  %0 = getelementptr i32, ptr %arg.batch, i64 %arg.begin
  %.217 = add i64 %arg.classes, -1
  %..217 = tail call i64 @llvm.smax.i64(i64 %.217, i64 0)
  %.705 = sub i64 %arg.rows, %arg.classes
  %..705 = tail call i64 @llvm.smax.i64(i64 %.705, i64 0)
  %1 = shl i64 %arg.classes, 2
  %2 = shl i64 %arg.rows, 2
  %3 = shl nuw i64 %..705, 2
  %4 = getelementptr i8, ptr %arg.scores, i64 %1
  %xtraiter = and i64 %..217, 3
  %unroll_iter = and i64 %..217, %const
  %const_mat = add i64 %const, 2
  %unroll_iter14 = and i64 %arg.classes, %const_mat
  %xtraiter16 = and i64 %arg.classes, 3
  %unroll_iter20 = and i64 %arg.classes, %const
  %scevgep24 = getelementptr i8, ptr %arg.scores, i64 16
  %5 = add nsw i64 %unroll_iter14, -2
  %6 = lshr i64 %5, 1
  %7 = add nuw i64 %6, 1
  %8 = or disjoint i64 %unroll_iter, 1
  %9 = lshr i64 %7, 1
  %10 = mul nsw i64 %9, -2
  br label %B36.if

B34.loopexit:                                     ; preds = %B530.if.lr.ph, %B460
  %scevgep25 = getelementptr i8, ptr %lsr.iv, i64 %2
  %scevgep34 = getelementptr i8, ptr %lsr.iv33, i64 %2
  %exitcond332.not = icmp eq i64 %.127, %arg.n
  br i1 %exitcond332.not, label %B582, label %B36.if

B218.loopexit.unr-lcssa:                          ; preds = %B162.if
  %11 = icmp eq i64 %xtraiter, 0
  br i1 %11, label %B218, label %B162.if.epil.preheader

B162.if.epil.preheader:                           ; preds = %B162.if.preheader, %B218.loopexit.unr-lcssa
  %largest.2.1242.epil.init = phi float [ %.172, %B162.if.preheader ], [ %.11.i.3, %B218.loopexit.unr-lcssa ]
  %.266238240.epil.init = phi i64 [ 1, %B162.if.preheader ], [ %8, %B218.loopexit.unr-lcssa ]
  %12 = shl i64 %.266238240.epil.init, 2
  %scevgep35 = getelementptr i8, ptr %lsr.iv33, i64 %12
  br label %B162.if.epil

B162.if.epil:                                     ; preds = %B162.if.epil, %B162.if.epil.preheader
  %largest.2.1242.epil = phi float [ %.11.i.epil, %B162.if.epil ], [ %largest.2.1242.epil.init, %B162.if.epil.preheader ]
  %epil.iter = phi i64 [ %epil.iter.next, %B162.if.epil ], [ 0, %B162.if.epil.preheader ]
  %13 = shl i64 %epil.iter, 2
  %scevgep42 = getelementptr i8, ptr %scevgep35, i64 %13
  %.302.epil = load float, ptr %scevgep42, align 4
  %.10.i.epil = fcmp reassoc nsz contract ogt float %.302.epil, %largest.2.1242.epil
  %.11.i.epil = select i1 %.10.i.epil, float %.302.epil, float %largest.2.1242.epil
  %epil.iter.next = add i64 %epil.iter, 1
  %epil.iter.cmp.not = icmp eq i64 %xtraiter, %epil.iter.next
  br i1 %epil.iter.cmp.not, label %B218, label %B162.if.epil, !llvm.loop !8

B218:                                             ; preds = %B36.if, %B162.if.epil, %B218.loopexit.unr-lcssa
  %largest.2.1.lcssa = phi float [ %.172, %B36.if ], [ %.11.i.3, %B218.loopexit.unr-lcssa ], [ %.11.i.epil, %B162.if.epil ]
  %14 = icmp sgt i64 %arg.classes, 0
  br i1 %14, label %B248.if.preheader, label %B358.thread

B248.if.preheader:                                ; preds = %B218
  %15 = icmp eq i64 %.217, 0
  br i1 %15, label %B248.if.epil.preheader, label %B248.if.preheader7

B248.if.preheader7:                               ; preds = %B248.if.preheader
  %16 = icmp eq i64 %5, 0
  br i1 %16, label %B248.if.epil.preheader9, label %B248.if.preheader10

B248.if.preheader10:                              ; preds = %B248.if.preheader7
  br label %B248.if

B358.thread:                                      ; preds = %B218
  %.5053 = getelementptr float, ptr %arg.class_weights, i64 %.162
  %.5064 = load float, ptr %.5053, align 4
  %.5085 = fmul reassoc nsz contract float %.5064, %arg.share
  br label %B460

B410.if.lr.ph.unr-lcssa.unr-lcssa:                ; preds = %B248.if
  %17 = and i64 %5, 2
  %18 = icmp eq i64 %17, 0
  br i1 %18, label %B248.if.epil.preheader9, label %B410.if.lr.ph.unr-lcssa

B248.if.epil.preheader9:                          ; preds = %B410.if.lr.ph.unr-lcssa.unr-lcssa, %B248.if.preheader7
  %total.2.1251.epil.init16 = phi float [ 0.000000e+00, %B248.if.preheader7 ], [ %.493.1.1, %B410.if.lr.ph.unr-lcssa.unr-lcssa ]
  %.431247249.epil.init17 = phi i64 [ 0, %B248.if.preheader7 ], [ %.438.1.1, %B410.if.lr.ph.unr-lcssa.unr-lcssa ]
  %19 = shl i64 %.431247249.epil.init17, 2
  %scevgep39.epil = getelementptr i8, ptr %lsr.iv33, i64 %19
  %.467.epil11 = load float, ptr %scevgep39.epil, align 4
  %.469.epil12 = fsub reassoc nsz contract float %.467.epil11, %largest.2.1.lcssa
  %.477.le.epil13 = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.epil12)
  store float %.477.le.epil13, ptr %scevgep39.epil, align 4
  %.493.epil14 = fadd reassoc nsz contract float %.477.le.epil13, %total.2.1251.epil.init16
  %.438.1.epil = add nuw i64 %.431247249.epil.init17, 2
  %scevgep38.epil = getelementptr i8, ptr %scevgep39.epil, i64 4
  %.467.1.epil = load float, ptr %scevgep38.epil, align 4
  %.469.1.epil = fsub reassoc nsz contract float %.467.1.epil, %largest.2.1.lcssa
  %.477.le.1.epil = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.1.epil)
  store float %.477.le.1.epil, ptr %scevgep38.epil, align 4
  %.493.1.epil = fadd reassoc nsz contract float %.493.epil14, %.477.le.1.epil
  br label %B410.if.lr.ph.unr-lcssa

B410.if.lr.ph.unr-lcssa:                          ; preds = %B248.if.epil.preheader9, %B410.if.lr.ph.unr-lcssa.unr-lcssa
  %.438.1.lcssa = phi i64 [ %.438.1.epil, %B248.if.epil.preheader9 ], [ %.438.1.1, %B410.if.lr.ph.unr-lcssa.unr-lcssa ]
  %.493.1.lcssa = phi float [ %.493.1.epil, %B248.if.epil.preheader9 ], [ %.493.1.1, %B410.if.lr.ph.unr-lcssa.unr-lcssa ]
  %20 = and i64 %arg.classes, 1
  %21 = icmp eq i64 %20, 0
  br i1 %21, label %B410.if.lr.ph, label %B248.if.epil.preheader

B248.if.epil.preheader:                           ; preds = %B410.if.lr.ph.unr-lcssa, %B248.if.preheader
  %total.2.1251.epil.init = phi float [ 0.000000e+00, %B248.if.preheader ], [ %.493.1.lcssa, %B410.if.lr.ph.unr-lcssa ]
  %.431247249.epil.init = phi i64 [ 0, %B248.if.preheader ], [ %.438.1.lcssa, %B410.if.lr.ph.unr-lcssa ]
  %.466.epil = getelementptr float, ptr %.171, i64 %.431247249.epil.init
  %.467.epil = load float, ptr %.466.epil, align 4
  %.469.epil = fsub reassoc nsz contract float %.467.epil, %largest.2.1.lcssa
  %.477.le.epil = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.epil)
  store float %.477.le.epil, ptr %.466.epil, align 4
  %.493.epil = fadd reassoc nsz contract float %.477.le.epil, %total.2.1251.epil.init
  br label %B410.if.lr.ph

B410.if.lr.ph:                                    ; preds = %B248.if.epil.preheader, %B410.if.lr.ph.unr-lcssa
  %.493.lcssa = phi float [ %.493.1.lcssa, %B410.if.lr.ph.unr-lcssa ], [ %.493.epil, %B248.if.epil.preheader ]
  %22 = icmp ult i64 %arg.classes, 4
  %.505 = getelementptr float, ptr %arg.class_weights, i64 %.162
  %.506 = load float, ptr %.505, align 4
  %.508 = fmul reassoc nsz contract float %.506, %arg.share
  br i1 %22, label %B410.if.epil.preheader, label %B410.if.preheader

B410.if.preheader:                                ; preds = %B410.if.lr.ph
  br label %B410.if

B460.loopexit.unr-lcssa:                          ; preds = %B410.if
  %23 = icmp eq i64 %xtraiter16, 0
  br i1 %23, label %B460, label %B410.if.epil.preheader

B410.if.epil.preheader:                           ; preds = %B460.loopexit.unr-lcssa, %B410.if.lr.ph
  %.598257259.epil.init = phi i64 [ 0, %B410.if.lr.ph ], [ %.605.3, %B460.loopexit.unr-lcssa ]
  %24 = shl i64 %.598257259.epil.init, 2
  %scevgep47 = getelementptr i8, ptr %lsr.iv33, i64 %24
  br label %B410.if.epil

B410.if.epil:                                     ; preds = %B410.if.epil, %B410.if.epil.preheader
  %epil.iter17 = phi i64 [ 0, %B410.if.epil.preheader ], [ %epil.iter17.next, %B410.if.epil ]
  %25 = shl i64 %epil.iter17, 2
  %scevgep59 = getelementptr i8, ptr %scevgep47, i64 %25
  %.634.epil = load float, ptr %scevgep59, align 4
  %26 = fmul reassoc nsz contract float %.634.epil, %.508
  %.641.epil = fdiv reassoc nsz contract float %26, %.493.lcssa
  store float %.641.epil, ptr %scevgep59, align 4
  %epil.iter17.next = add i64 %epil.iter17, 1
  %epil.iter17.cmp.not = icmp eq i64 %xtraiter16, %epil.iter17.next
  br i1 %epil.iter17.cmp.not, label %B460, label %B410.if.epil, !llvm.loop !9

B460:                                             ; preds = %B410.if.epil, %B460.loopexit.unr-lcssa, %B358.thread
  %.5086 = phi float [ %.5085, %B358.thread ], [ %.508, %B460.loopexit.unr-lcssa ], [ %.508, %B410.if.epil ]
  %27 = icmp slt i64 %.705, 1
  %.658 = getelementptr float, ptr %.171, i64 %.162
  %.659 = load float, ptr %.658, align 4
  %.661 = fsub reassoc nsz contract float %.659, %.5086
  store float %.661, ptr %.658, align 4
  br i1 %27, label %B34.loopexit, label %B530.if.lr.ph

B530.if.lr.ph:                                    ; preds = %B460
  tail call void @llvm.memset.p0.i64(ptr align 4 %scevgep, i8 0, i64 %3, i1 false)
  br label %B34.loopexit

B582:                                             ; preds = %B34.loopexit, %entry
  %.820 = add nsw i64 %arg.n, 3
  %.863 = and i64 %.820, -4
  %.865229 = sub i64 %.863, %arg.n
  %.904 = mul i64 %arg.rows, %.865229
  %.947316.not = icmp slt i64 %.904, 1
  br i1 %.947316.not, label %B686, label %B644.if.preheader

B644.if.preheader:                                ; preds = %B582
  %28 = shl i64 %arg.n, 2
  %29 = mul i64 %28, %arg.rows
  %scevgep333 = getelementptr i8, ptr %arg.scores, i64 %29
  %30 = shl nuw i64 %.904, 2
  tail call void @llvm.memset.p0.i64(ptr align 4 %scevgep333, i8 0, i64 %30, i1 false)
  br label %B686

B686:                                             ; preds = %B644.if.preheader, %B582
  store ptr null, ptr %retptr, align 8
  ret i32 0

B36.if:                                           ; preds = %B34.loopexit, %B36.if.lr.ph
  %lsr.iv33 = phi ptr [ %arg.scores, %B36.if.lr.ph ], [ %scevgep34, %B34.loopexit ]
  %lsr.iv = phi ptr [ %scevgep24, %B36.if.lr.ph ], [ %scevgep25, %B34.loopexit ]
  %.120271301 = phi i64 [ 0, %B36.if.lr.ph ], [ %.127, %B34.loopexit ]
  %31 = icmp slt i64 %.217, 1
  %32 = mul i64 %.120271301, %2
  %scevgep = getelementptr i8, ptr %4, i64 %32
  %.127 = add nuw nsw i64 %.120271301, 1
  %.153 = mul nsw i64 %.120271301, %arg.rows
  %.157 = getelementptr i32, ptr %0, i64 %.120271301
  %.158 = load i32, ptr %.157, align 4
  %.160 = sext i32 %.158 to i64
  %.161 = getelementptr i64, ptr %arg.y, i64 %.160
  %.162 = load i64, ptr %.161, align 8
  %.171 = getelementptr float, ptr %arg.scores, i64 %.153
  %.172 = load float, ptr %.171, align 4
  br i1 %31, label %B218, label %B162.if.preheader

B162.if.preheader:                                ; preds = %B36.if
  %33 = icmp slt i64 %.217, 4
  br i1 %33, label %B162.if.epil.preheader, label %B162.if.preheader11

B162.if.preheader11:                              ; preds = %B162.if.preheader
  br label %B162.if

B162.if:                                          ; preds = %B162.if, %B162.if.preheader11
  %largest.2.1242 = phi float [ %.11.i.3, %B162.if ], [ %.172, %B162.if.preheader11 ]
  %niter = phi i64 [ %niter.next.3, %B162.if ], [ 0, %B162.if.preheader11 ]
  %34 = shl i64 %niter, 2
  %scevgep31 = getelementptr i8, ptr %lsr.iv, i64 %34
  %scevgep32 = getelementptr i8, ptr %scevgep31, i64 -12
  %.302 = load float, ptr %scevgep32, align 4
  %.10.i = fcmp reassoc nsz contract ogt float %.302, %largest.2.1242
  %.11.i = select i1 %.10.i, float %.302, float %largest.2.1242
  %35 = shl i64 %niter, 2
  %scevgep14 = getelementptr i8, ptr %lsr.iv, i64 %35
  %scevgep15 = getelementptr i8, ptr %scevgep14, i64 -8
  %.302.1 = load float, ptr %scevgep15, align 4
  %.10.i.1 = fcmp reassoc nsz contract ogt float %.302.1, %.11.i
  %.11.i.1 = select i1 %.10.i.1, float %.302.1, float %.11.i
  %36 = shl i64 %niter, 2
  %scevgep12 = getelementptr i8, ptr %lsr.iv, i64 %36
  %scevgep13 = getelementptr i8, ptr %scevgep12, i64 -4
  %.302.2 = load float, ptr %scevgep13, align 4
  %.10.i.2 = fcmp reassoc nsz contract ogt float %.302.2, %.11.i.1
  %.11.i.2 = select i1 %.10.i.2, float %.302.2, float %.11.i.1
  %.302.3 = load float, ptr %scevgep31, align 4
  %.10.i.3 = fcmp reassoc nsz contract ogt float %.302.3, %.11.i.2
  %.11.i.3 = select i1 %.10.i.3, float %.302.3, float %.11.i.2
  %niter.next.3 = add nuw nsw i64 %niter, 4
  %niter.ncmp.3 = icmp eq i64 %unroll_iter, %niter.next.3
  br i1 %niter.ncmp.3, label %B218.loopexit.unr-lcssa, label %B162.if

B248.if:                                          ; preds = %B248.if, %B248.if.preheader10
  %lsr.iv16 = phi i64 [ %10, %B248.if.preheader10 ], [ %lsr.iv.next17, %B248.if ]
  %total.2.1251 = phi float [ %.493.1.1, %B248.if ], [ 0.000000e+00, %B248.if.preheader10 ]
  %.431247249 = phi i64 [ %.438.1.1, %B248.if ], [ 0, %B248.if.preheader10 ]
  %37 = shl i64 %.431247249, 2
  %scevgep39 = getelementptr i8, ptr %lsr.iv33, i64 %37
  %.467 = load float, ptr %scevgep39, align 4
  %.469 = fsub reassoc nsz contract float %.467, %largest.2.1.lcssa
  %.477.le = tail call reassoc nsz contract float @llvm.exp.f32(float %.469)
  store float %.477.le, ptr %scevgep39, align 4
  %.493 = fadd reassoc nsz contract float %.477.le, %total.2.1251
  %38 = shl i64 %.431247249, 2
  %scevgep22 = getelementptr i8, ptr %lsr.iv33, i64 %38
  %scevgep23 = getelementptr i8, ptr %scevgep22, i64 4
  %.467.1 = load float, ptr %scevgep23, align 4
  %.469.1 = fsub reassoc nsz contract float %.467.1, %largest.2.1.lcssa
  %.477.le.1 = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.1)
  store float %.477.le.1, ptr %scevgep23, align 4
  %.493.1 = fadd reassoc nsz contract float %.493, %.477.le.1
  %39 = shl i64 %.431247249, 2
  %scevgep20 = getelementptr i8, ptr %lsr.iv33, i64 %39
  %scevgep21 = getelementptr i8, ptr %scevgep20, i64 8
  %.467.123 = load float, ptr %scevgep21, align 4
  %.469.124 = fsub reassoc nsz contract float %.467.123, %largest.2.1.lcssa
  %.477.le.125 = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.124)
  store float %.477.le.125, ptr %scevgep21, align 4
  %.493.126 = fadd reassoc nsz contract float %.493.1, %.477.le.125
  %.438.1.1 = add i64 %.431247249, 4
  %40 = shl i64 %.431247249, 2
  %scevgep18 = getelementptr i8, ptr %lsr.iv33, i64 %40
  %scevgep19 = getelementptr i8, ptr %scevgep18, i64 12
  %.467.1.1 = load float, ptr %scevgep19, align 4
  %.469.1.1 = fsub reassoc nsz contract float %.467.1.1, %largest.2.1.lcssa
  %.477.le.1.1 = tail call reassoc nsz contract float @llvm.exp.f32(float %.469.1.1)
  store float %.477.le.1.1, ptr %scevgep19, align 4
  %.493.1.1 = fadd reassoc nsz contract float %.493.126, %.477.le.1.1
  %lsr.iv.next17 = add i64 %lsr.iv16, 2
  %niter22.ncmp.1 = icmp eq i64 %lsr.iv.next17, 0
  br i1 %niter22.ncmp.1, label %B410.if.lr.ph.unr-lcssa.unr-lcssa, label %B248.if

B410.if:                                          ; preds = %B410.if, %B410.if.preheader
  %.598257259 = phi i64 [ %.605.3, %B410.if ], [ 0, %B410.if.preheader ]
  %41 = shl i64 %.598257259, 2
  %scevgep46 = getelementptr i8, ptr %lsr.iv33, i64 %41
  %.634 = load float, ptr %scevgep46, align 4
  %42 = fmul reassoc nsz contract float %.634, %.508
  %.641 = fdiv reassoc nsz contract float %42, %.493.lcssa
  store float %.641, ptr %scevgep46, align 4
  %43 = shl i64 %.598257259, 2
  %scevgep30 = getelementptr i8, ptr %lsr.iv33, i64 %43
  %scevgep33 = getelementptr i8, ptr %scevgep30, i64 4
  %.634.1 = load float, ptr %scevgep33, align 4
  %44 = fmul reassoc nsz contract float %.634.1, %.508
  %.641.1 = fdiv reassoc nsz contract float %44, %.493.lcssa
  store float %.641.1, ptr %scevgep33, align 4
  %45 = shl i64 %.598257259, 2
  %scevgep28 = getelementptr i8, ptr %lsr.iv33, i64 %45
  %scevgep29 = getelementptr i8, ptr %scevgep28, i64 8
  %.634.2 = load float, ptr %scevgep29, align 4
  %46 = fmul reassoc nsz contract float %.634.2, %.508
  %.641.2 = fdiv reassoc nsz contract float %46, %.493.lcssa
  store float %.641.2, ptr %scevgep29, align 4
  %.605.3 = add nuw i64 %.598257259, 4
  %47 = shl i64 %.598257259, 2
  %scevgep26 = getelementptr i8, ptr %lsr.iv33, i64 %47
  %scevgep27 = getelementptr i8, ptr %scevgep26, i64 12
  %.634.3 = load float, ptr %scevgep27, align 4
  %48 = fmul reassoc nsz contract float %.634.3, %.508
  %.641.3 = fdiv reassoc nsz contract float %48, %.493.lcssa
  store float %.641.3, ptr %scevgep27, align 4
  %niter21.ncmp.3 = icmp eq i64 %unroll_iter20, %.605.3
  br i1 %niter21.ncmp.3, label %B460.loopexit.unr-lcssa, label %B410.if
}

; Function Attrs: nofree norecurse nosync nounwind memory(argmem: readwrite)
define internal noundef i32 @add_products(ptr noalias writeonly captures(none) %retptr, ptr noalias readnone captures(none) %excinfo, ptr readonly captures(none) %arg.images, i64 %arg.n, ptr readonly captures(none) %arg.scores, ptr captures(none) %arg.gradient, i64 %arg.rows, i64 %arg.width) local_unnamed_addr #2 {
entry:
  %.77 = and i64 %arg.rows, 1
  %.81134 = lshr i64 %arg.rows, 1
  %.83 = add nuw nsw i64 %.81134, %.77
  %.60.inv = icmp slt i64 %arg.rows, 1
  %.105165.not176 = icmp eq i64 %.83, 0
  %.105165.not = select i1 %.60.inv, i1 true, i1 %.105165.not176
  br i1 %.105165.not, label %B724, label %B40.if.lr.ph

B40.if.lr.ph:                                     ; preds = %entry
  %0 = add nuw i64 %arg.n, 3
  %.218 = lshr i64 %0, 2
  %.197.inv = icmp sgt i64 %arg.n, 0
  %storemerge136 = select i1 %.197.inv, i64 %.218, i64 0
  %1 = shl i64 %arg.width, 2
  %scevgep = getelementptr i8, ptr %arg.gradient, i64 %1
  %2 = shl i64 %arg.width, 3
  %3 = mul i64 %arg.width, 12
  %scevgep12 = getelementptr i8, ptr %arg.images, i64 %3
  %4 = shl i64 %arg.width, 4
  %scevgep16 = getelementptr i8, ptr %arg.images, i64 %2
  %scevgep20 = getelementptr i8, ptr %arg.images, i64 %1
  br label %B40.if

B38.loopexit:                                     ; preds = %B40.if, %B104.loopexit
  %scevgep7 = getelementptr i8, ptr %lsr.iv, i64 %2
  %scevgep10 = getelementptr i8, ptr %lsr.iv9, i64 %2
  %.105 = icmp sgt i64 %.104157169, 1
  br i1 %.105, label %B40.if, label %B724

B104.loopexit:                                    ; preds = %B456.if, %B106.if
  %scevgep14 = getelementptr i8, ptr %lsr.iv13, i64 %4
  %scevgep18 = getelementptr i8, ptr %lsr.iv17, i64 %4
  %scevgep22 = getelementptr i8, ptr %lsr.iv21, i64 %4
  %scevgep25 = getelementptr i8, ptr %lsr.iv24, i64 %4
  %.240 = icmp sgt i64 %.239144152, 1
  br i1 %.240, label %B106.if, label %B38.loopexit

B724:                                             ; preds = %B38.loopexit, %entry
  store ptr null, ptr %retptr, align 8
  ret i32 0

B40.if:                                           ; preds = %B38.loopexit, %B40.if.lr.ph
  %lsr.iv9 = phi ptr [ %arg.gradient, %B40.if.lr.ph ], [ %scevgep10, %B38.loopexit ]
  %lsr.iv = phi ptr [ %scevgep, %B40.if.lr.ph ], [ %scevgep7, %B38.loopexit ]
  %.104157169 = phi i64 [ %.83, %B40.if.lr.ph ], [ %.114, %B38.loopexit ]
  %.111158168 = phi i64 [ 0, %B40.if.lr.ph ], [ %.118, %B38.loopexit ]
  %5 = icmp eq i64 %storemerge136, 0
  %.114 = add nsw i64 %.104157169, -1
  %.118 = add nuw i64 %.111158168, 2
  br i1 %5, label %B38.loopexit, label %B106.if.lr.ph

B106.if.lr.ph:                                    ; preds = %B40.if
  %invariant.gep = getelementptr float, ptr %arg.scores, i64 %.111158168
  br label %B106.if

B106.if:                                          ; preds = %B106.if.lr.ph, %B104.loopexit
  %lsr.iv24 = phi ptr [ %arg.images, %B106.if.lr.ph ], [ %scevgep25, %B104.loopexit ]
  %lsr.iv21 = phi ptr [ %scevgep20, %B106.if.lr.ph ], [ %scevgep22, %B104.loopexit ]
  %lsr.iv17 = phi ptr [ %scevgep16, %B106.if.lr.ph ], [ %scevgep18, %B104.loopexit ]
  %lsr.iv13 = phi ptr [ %scevgep12, %B106.if.lr.ph ], [ %scevgep14, %B104.loopexit ]
  %.239144152 = phi i64 [ %storemerge136, %B106.if.lr.ph ], [ %.249, %B104.loopexit ]
  %.246145151 = phi i64 [ 0, %B106.if.lr.ph ], [ %.253, %B104.loopexit ]
  %6 = icmp slt i64 %arg.width, 1
  %.249 = add nsw i64 %.239144152, -1
  %.253 = add nuw i64 %.246145151, 4
  %.280 = or disjoint i64 %.246145151, 1
  %.283 = or disjoint i64 %.246145151, 2
  %.286 = or disjoint i64 %.246145151, 3
  %.310 = mul nsw i64 %.246145151, %arg.rows
  %.315 = mul nsw i64 %.280, %arg.rows
  %.320 = mul nsw i64 %.283, %arg.rows
  %.325 = mul nsw i64 %.286, %arg.rows
  %gep = getelementptr float, ptr %invariant.gep, i64 %.310
  %.338 = load float, ptr %gep, align 4
  %gep2 = getelementptr float, ptr %invariant.gep, i64 %.315
  %.341 = load float, ptr %gep2, align 4
  %gep4 = getelementptr float, ptr %invariant.gep, i64 %.320
  %.344 = load float, ptr %gep4, align 4
  %gep6 = getelementptr float, ptr %invariant.gep, i64 %.325
  %.347 = load float, ptr %gep6, align 4
  %.370 = getelementptr i8, ptr %gep, i64 4
  %.371 = load float, ptr %.370, align 4
  %.374 = getelementptr i8, ptr %gep2, i64 4
  %.375 = load float, ptr %.374, align 4
  %.378 = getelementptr i8, ptr %gep4, i64 4
  %.379 = load float, ptr %.378, align 4
  %.382 = getelementptr i8, ptr %gep6, i64 4
  %.383 = load float, ptr %.382, align 4
  br i1 %6, label %B104.loopexit, label %B456.if.preheader

B456.if.preheader:                                ; preds = %B106.if
  br label %B456.if

B456.if:                                          ; preds = %B456.if, %B456.if.preheader
  %.490139141 = phi i64 [ %.497, %B456.if ], [ 0, %B456.if.preheader ]
  %.497 = add nuw nsw i64 %.490139141, 1
  %7 = shl i64 %.490139141, 2
  %scevgep26 = getelementptr i8, ptr %lsr.iv24, i64 %7
  %.526 = load float, ptr %scevgep26, align 4
  %scevgep23 = getelementptr i8, ptr %lsr.iv21, i64 %7
  %.531 = load float, ptr %scevgep23, align 4
  %scevgep19 = getelementptr i8, ptr %lsr.iv17, i64 %7
  %.536 = load float, ptr %scevgep19, align 4
  %8 = shl i64 %.490139141, 2
  %scevgep6 = getelementptr i8, ptr %lsr.iv13, i64 %8
  %.541 = load float, ptr %scevgep6, align 4
  %9 = shl i64 %.490139141, 2
  %scevgep5 = getelementptr i8, ptr %lsr.iv9, i64 %9
  %.554 = load float, ptr %scevgep5, align 4
  %.556 = fmul reassoc nsz contract float %.526, %.338
  %.558 = fmul reassoc nsz contract float %.531, %.341
  %.559 = fadd reassoc nsz contract float %.558, %.556
  %.561 = fmul reassoc nsz contract float %.536, %.344
  %.562 = fadd reassoc nsz contract float %.559, %.561
  %.564 = fmul reassoc nsz contract float %.541, %.347
  %.565 = fadd reassoc nsz contract float %.562, %.564
  %.566 = fadd reassoc nsz contract float %.565, %.554
  store float %.566, ptr %scevgep5, align 4
  %10 = shl i64 %.490139141, 2
  %scevgep4 = getelementptr i8, ptr %lsr.iv, i64 %10
  %.574 = load float, ptr %scevgep4, align 4
  %.576 = fmul reassoc nsz contract float %.526, %.371
  %.578 = fmul reassoc nsz contract float %.531, %.375
  %.579 = fadd reassoc nsz contract float %.578, %.576
  %.581 = fmul reassoc nsz contract float %.536, %.379
  %.582 = fadd reassoc nsz contract float %.579, %.581
  %.584 = fmul reassoc nsz contract float %.541, %.383
  %.585 = fadd reassoc nsz contract float %.582, %.584
  %.586 = fadd reassoc nsz contract float %.585, %.574
  store float %.586, ptr %scevgep4, align 4
  %exitcond.not = icmp eq i64 %arg.width, %.497
  br i1 %exitcond.not, label %B104.loopexit, label %B456.if
}

; Function Attrs: nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none)
declare float @llvm.exp.f32(float) #1

; Function Attrs: nofree norecurse nosync nounwind memory(argmem: readwrite)
define internal noundef i32 @move(ptr noalias writeonly captures(none) %retptr, ptr noalias readnone captures(none) %excinfo, ptr captures(none) %arg.w, ptr readonly captures(none) %arg.g, ptr captures(none) %arg.m, ptr captures(none) %arg.v, i64 %arg.size, i64 %arg.optimizer, float %arg.rate, i64 %arg.step) local_unnamed_addr #2 {
entry:
  switch i64 %arg.optimizer, label %B1164 [
    i64 0, label %B112
    i64 3, label %B226
    i64 2, label %B998
  ]

B112:                                             ; preds = %entry
  %.137173.not = icmp slt i64 %arg.size, 1
  br i1 %.137173.not, label %common.ret, label %B142.if.preheader

B142.if.preheader:                                ; preds = %B112
  %0 = icmp eq i64 %arg.size, 1
  br i1 %0, label %B142.if.epil.preheader, label %B142.if.preheader.new

B142.if.preheader.new:                            ; preds = %B142.if.preheader
  %1 = add nsw i64 %arg.size, -2
  %2 = lshr i64 %1, 1
  %3 = add nuw i64 %2, 1
  %4 = icmp eq i64 %2, 0
  br i1 %4, label %B142.if.epil.preheader6, label %B142.if.preheader.new.new

B142.if.preheader.new.new:                        ; preds = %B142.if.preheader.new
  %unroll_iter14 = and i64 %3, -2
  br label %B142.if

common.ret.loopexit.unr-lcssa:                    ; preds = %B1194.if
  %5 = and i64 %arg.size, 1
  %lcmp.mod6.not = icmp eq i64 %5, 0
  br i1 %lcmp.mod6.not, label %common.ret, label %B1194.if.epil.preheader

B1194.if.epil.preheader:                          ; preds = %B1194.if.preheader, %common.ret.loopexit.unr-lcssa
  %.732179181.epil.init = phi i64 [ 0, %B1194.if.preheader ], [ %.739.1, %common.ret.loopexit.unr-lcssa ]
  %.765.epil = getelementptr float, ptr %arg.m, i64 %.732179181.epil.init
  %.766.epil = load float, ptr %.765.epil, align 4
  %.768.epil = fmul reassoc nsz contract float %.766.epil, 0x3FECCCCCC0000000
  %.770.epil = getelementptr float, ptr %arg.g, i64 %.732179181.epil.init
  %.771.epil = load float, ptr %.770.epil, align 4
  %.773.epil = fmul reassoc nsz contract float %.771.epil, %arg.rate
  %.774.epil = fsub reassoc nsz contract float %.768.epil, %.773.epil
  store float %.774.epil, ptr %.765.epil, align 4
  %.779.epil = getelementptr float, ptr %arg.w, i64 %.732179181.epil.init
  %.780.epil = load float, ptr %.779.epil, align 4
  %.784.epil = fadd reassoc nsz contract float %.780.epil, %.774.epil
  store float %.784.epil, ptr %.779.epil, align 4
  br label %common.ret

common.ret.loopexit1.unr-lcssa.unr-lcssa:         ; preds = %B142.if
  %6 = and i64 %3, 1
  %lcmp.mod.not20 = icmp eq i64 %6, 0
  br i1 %lcmp.mod.not20, label %common.ret.loopexit1.unr-lcssa, label %B142.if.epil.preheader6

B142.if.epil.preheader6:                          ; preds = %common.ret.loopexit1.unr-lcssa.unr-lcssa, %B142.if.preheader.new
  %.143172174.epil.init11 = phi i64 [ 0, %B142.if.preheader.new ], [ %.150.1.1, %common.ret.loopexit1.unr-lcssa.unr-lcssa ]
  %sunkaddr.epil = shl i64 %.143172174.epil.init11, 2
  %sunkaddr38.epil = getelementptr i8, ptr %arg.w, i64 %sunkaddr.epil
  %.177.epil7 = load float, ptr %sunkaddr38.epil, align 4
  %sunkaddr40.epil = getelementptr i8, ptr %arg.g, i64 %sunkaddr.epil
  %.180.epil8 = load float, ptr %sunkaddr40.epil, align 4
  %.182.epil9 = fmul reassoc nsz contract float %.180.epil8, %arg.rate
  %.183.epil10 = fsub reassoc nsz contract float %.177.epil7, %.182.epil9
  store float %.183.epil10, ptr %sunkaddr38.epil, align 4
  %.150.1.epil = add nuw i64 %.143172174.epil.init11, 2
  %sunkaddr43.epil = getelementptr i8, ptr %sunkaddr38.epil, i64 4
  %.177.1.epil = load float, ptr %sunkaddr43.epil, align 4
  %sunkaddr46.epil = getelementptr i8, ptr %sunkaddr40.epil, i64 4
  %.180.1.epil = load float, ptr %sunkaddr46.epil, align 4
  %.182.1.epil = fmul reassoc nsz contract float %.180.1.epil, %arg.rate
  %.183.1.epil = fsub reassoc nsz contract float %.177.1.epil, %.182.1.epil
  store float %.183.1.epil, ptr %sunkaddr43.epil, align 4
  br label %common.ret.loopexit1.unr-lcssa

common.ret.loopexit1.unr-lcssa:                   ; preds = %B142.if.epil.preheader6, %common.ret.loopexit1.unr-lcssa.unr-lcssa
  %.150.1.lcssa = phi i64 [ %.150.1.epil, %B142.if.epil.preheader6 ], [ %.150.1.1, %common.ret.loopexit1.unr-lcssa.unr-lcssa ]
  %7 = and i64 %arg.size, 1
  %lcmp.mod.not = icmp eq i64 %7, 0
  br i1 %lcmp.mod.not, label %common.ret, label %B142.if.epil.preheader

B142.if.epil.preheader:                           ; preds = %common.ret.loopexit1.unr-lcssa, %B142.if.preheader
  %.143172174.epil.init = phi i64 [ 0, %B142.if.preheader ], [ %.150.1.lcssa, %common.ret.loopexit1.unr-lcssa ]
  %.176.epil = getelementptr float, ptr %arg.w, i64 %.143172174.epil.init
  %.177.epil = load float, ptr %.176.epil, align 4
  %.179.epil = getelementptr float, ptr %arg.g, i64 %.143172174.epil.init
  %.180.epil = load float, ptr %.179.epil, align 4
  %.182.epil = fmul reassoc nsz contract float %.180.epil, %arg.rate
  %.183.epil = fsub reassoc nsz contract float %.177.epil, %.182.epil
  store float %.183.epil, ptr %.176.epil, align 4
  br label %common.ret

common.ret:                                       ; preds = %B1028.if, %B666.if, %B1164, %B998, %B226, %B142.if.epil.preheader, %common.ret.loopexit1.unr-lcssa, %B1194.if.epil.preheader, %common.ret.loopexit.unr-lcssa, %B112
  store ptr null, ptr %retptr, align 8
  ret i32 0

B226:                                             ; preds = %entry
  %.211 = sitofp i64 %arg.step to double
  %.212 = tail call reassoc nsz contract double @llvm.pow.f64(double 0x3FECCCCCC0000000, double %.211)
  %.213 = fptrunc double %.212 to float
  %.214 = fsub reassoc nsz contract float 1.000000e+00, %.213
  %.222 = tail call reassoc nsz contract double @llvm.pow.f64(double 0x3FEFF7CEE0000000, double %.211)
  %.223 = fptrunc double %.222 to float
  %.224 = fsub reassoc nsz contract float 1.000000e+00, %.223
  %.232 = tail call reassoc nsz contract float @sqrtf(float %.224)
  %.238 = fmul reassoc nsz contract float %.232, %arg.rate
  %.336166.not = icmp slt i64 %arg.size, 1
  br i1 %.336166.not, label %common.ret, label %B666.if.preheader

B666.if.preheader:                                ; preds = %B226
  br label %B666.if

B998:                                             ; preds = %entry
  %.557160.not = icmp slt i64 %arg.size, 1
  br i1 %.557160.not, label %common.ret, label %B1028.if.preheader

B1028.if.preheader:                               ; preds = %B998
  br label %B1028.if

B1164:                                            ; preds = %entry
  %.726180.not = icmp slt i64 %arg.size, 1
  br i1 %.726180.not, label %common.ret, label %B1194.if.preheader

B1194.if.preheader:                               ; preds = %B1164
  %8 = icmp eq i64 %arg.size, 1
  br i1 %8, label %B1194.if.epil.preheader, label %B1194.if.preheader.new

B1194.if.preheader.new:                           ; preds = %B1194.if.preheader
  %unroll_iter8 = and i64 %arg.size, 9223372036854775806
  br label %B1194.if

B142.if:                                          ; preds = %B142.if, %B142.if.preheader.new.new
  %lsr.iv = phi i64 [ %lsr.iv.next, %B142.if ], [ %unroll_iter14, %B142.if.preheader.new.new ]
  %.143172174 = phi i64 [ 0, %B142.if.preheader.new.new ], [ %.150.1.1, %B142.if ]
  %sunkaddr59 = mul i64 %.143172174, 4
  %sunkaddr60 = getelementptr i8, ptr %arg.w, i64 %sunkaddr59
  %.177 = load float, ptr %sunkaddr60, align 4
  %sunkaddr61 = mul i64 %.143172174, 4
  %sunkaddr62 = getelementptr i8, ptr %arg.g, i64 %sunkaddr61
  %.180 = load float, ptr %sunkaddr62, align 4
  %.182 = fmul reassoc nsz contract float %.180, %arg.rate
  %.183 = fsub reassoc nsz contract float %.177, %.182
  store float %.183, ptr %sunkaddr60, align 4
  %sunkaddr = mul i64 %.143172174, 4
  %sunkaddr63 = getelementptr i8, ptr %arg.w, i64 %sunkaddr
  %sunkaddr64 = getelementptr i8, ptr %sunkaddr63, i64 4
  %.177.1 = load float, ptr %sunkaddr64, align 4
  %sunkaddr65 = mul i64 %.143172174, 4
  %sunkaddr66 = getelementptr i8, ptr %arg.g, i64 %sunkaddr65
  %sunkaddr67 = getelementptr i8, ptr %sunkaddr66, i64 4
  %.180.1 = load float, ptr %sunkaddr67, align 4
  %.182.1 = fmul reassoc nsz contract float %.180.1, %arg.rate
  %.183.1 = fsub reassoc nsz contract float %.177.1, %.182.1
  store float %.183.1, ptr %sunkaddr64, align 4
  %sunkaddr68 = mul i64 %.143172174, 4
  %sunkaddr69 = getelementptr i8, ptr %arg.w, i64 %sunkaddr68
  %sunkaddr70 = getelementptr i8, ptr %sunkaddr69, i64 8
  %.177.115 = load float, ptr %sunkaddr70, align 4
  %sunkaddr71 = mul i64 %.143172174, 4
  %sunkaddr72 = getelementptr i8, ptr %arg.g, i64 %sunkaddr71
  %sunkaddr73 = getelementptr i8, ptr %sunkaddr72, i64 8
  %.180.116 = load float, ptr %sunkaddr73, align 4
  %.182.117 = fmul reassoc nsz contract float %.180.116, %arg.rate
  %.183.118 = fsub reassoc nsz contract float %.177.115, %.182.117
  store float %.183.118, ptr %sunkaddr70, align 4
  %.150.1.1 = add i64 %.143172174, 4
  %sunkaddr74 = mul i64 %.150.1.1, 4
  %sunkaddr75 = getelementptr i8, ptr %arg.w, i64 %sunkaddr74
  %sunkaddr76 = getelementptr i8, ptr %sunkaddr75, i64 -4
  %.177.1.1 = load float, ptr %sunkaddr76, align 4
  %sunkaddr77 = mul i64 %.150.1.1, 4
  %sunkaddr78 = getelementptr i8, ptr %arg.g, i64 %sunkaddr77
  %sunkaddr79 = getelementptr i8, ptr %sunkaddr78, i64 -4
  %.180.1.1 = load float, ptr %sunkaddr79, align 4
  %.182.1.1 = fmul reassoc nsz contract float %.180.1.1, %arg.rate
  %.183.1.1 = fsub reassoc nsz contract float %.177.1.1, %.182.1.1
  store float %.183.1.1, ptr %sunkaddr76, align 4
  %lsr.iv.next = add i64 %lsr.iv, -2
  %niter.ncmp.119 = icmp eq i64 %lsr.iv.next, 0
  br i1 %niter.ncmp.119, label %common.ret.loopexit1.unr-lcssa.unr-lcssa, label %B142.if

B666.if:                                          ; preds = %B666.if, %B666.if.preheader
  %.342165167 = phi i64 [ %.349, %B666.if ], [ 0, %B666.if.preheader ]
  %.349 = add nuw nsw i64 %.342165167, 1
  %9 = shl i64 %.342165167, 2
  %scevgep33 = getelementptr i8, ptr %arg.m, i64 %9
  %.376 = load float, ptr %scevgep33, align 4
  %scevgep32 = getelementptr i8, ptr %arg.g, i64 %9
  %.379 = load float, ptr %scevgep32, align 4
  %.383 = fsub reassoc nsz contract float %.379, %.376
  %.385 = fmul reassoc nsz contract float %.383, 0x3FB99999A0000000
  %.386 = fadd reassoc nsz contract float %.385, %.376
  store float %.386, ptr %scevgep33, align 4
  %10 = shl i64 %.342165167, 2
  %scevgep57 = getelementptr i8, ptr %arg.v, i64 %10
  %.392 = load float, ptr %scevgep57, align 4
  %.395 = load float, ptr %scevgep32, align 4
  %.399 = fmul reassoc nsz contract float %.395, %.395
  %.403 = fsub reassoc nsz contract float %.399, %.392
  %.405 = fmul reassoc nsz contract float %.403, 0x3F50624DE0000000
  %.406 = fadd reassoc nsz contract float %.405, %.392
  store float %.406, ptr %scevgep57, align 4
  %11 = shl i64 %.342165167, 2
  %scevgep56 = getelementptr i8, ptr %arg.w, i64 %11
  %.412 = load float, ptr %scevgep56, align 4
  %.415 = load float, ptr %scevgep33, align 4
  %12 = fmul reassoc nsz contract float %.238, %.415
  %.417 = fdiv reassoc nsz contract float %12, %.214
  %.428 = tail call reassoc nsz contract float @sqrtf(float %.406)
  %.434 = fadd reassoc nsz contract float %.428, 0x3E7AD7F2A0000000
  %.438 = fdiv reassoc nsz contract float %.417, %.434
  %.439 = fsub reassoc nsz contract float %.412, %.438
  store float %.439, ptr %scevgep56, align 4
  %exitcond185.not = icmp eq i64 %arg.size, %.349
  br i1 %exitcond185.not, label %common.ret, label %B666.if

B1028.if:                                         ; preds = %B1028.if, %B1028.if.preheader
  %.563159161 = phi i64 [ %.570, %B1028.if ], [ 0, %B1028.if.preheader ]
  %.570 = add nuw nsw i64 %.563159161, 1
  %13 = shl i64 %.563159161, 2
  %scevgep36 = getelementptr i8, ptr %arg.m, i64 %13
  %.597 = load float, ptr %scevgep36, align 4
  %.599 = fmul reassoc nsz contract float %.597, 0x3FECCCCCC0000000
  %scevgep35 = getelementptr i8, ptr %arg.g, i64 %13
  %.602 = load float, ptr %scevgep35, align 4
  %.604 = fmul reassoc nsz contract float %.602, %arg.rate
  %.605 = fsub reassoc nsz contract float %.599, %.604
  store float %.605, ptr %scevgep36, align 4
  %14 = shl i64 %.563159161, 2
  %scevgep58 = getelementptr i8, ptr %arg.w, i64 %14
  %.611 = load float, ptr %scevgep58, align 4
  %.616 = fmul reassoc nsz contract float %.605, 0x3FECCCCCC0000000
  %.619 = load float, ptr %scevgep35, align 4
  %.622 = fadd reassoc nsz contract float %.616, %.611
  %15 = fmul reassoc nsz contract float %arg.rate, %.619
  %.623 = fsub reassoc nsz contract float %.622, %15
  store float %.623, ptr %scevgep58, align 4
  %exitcond.not = icmp eq i64 %arg.size, %.570
  br i1 %exitcond.not, label %common.ret, label %B1028.if

B1194.if:                                         ; preds = %B1194.if, %B1194.if.preheader.new
  %.732179181 = phi i64 [ 0, %B1194.if.preheader.new ], [ %.739.1, %B1194.if ]
  %sunkaddr80 = mul i64 %.732179181, 4
  %sunkaddr81 = getelementptr i8, ptr %arg.m, i64 %sunkaddr80
  %.766 = load float, ptr %sunkaddr81, align 4
  %.768 = fmul reassoc nsz contract float %.766, 0x3FECCCCCC0000000
  %sunkaddr82 = mul i64 %.732179181, 4
  %sunkaddr83 = getelementptr i8, ptr %arg.g, i64 %sunkaddr82
  %.771 = load float, ptr %sunkaddr83, align 4
  %.773 = fmul reassoc nsz contract float %.771, %arg.rate
  %.774 = fsub reassoc nsz contract float %.768, %.773
  store float %.774, ptr %sunkaddr81, align 4
  %sunkaddr84 = mul i64 %.732179181, 4
  %sunkaddr85 = getelementptr i8, ptr %arg.w, i64 %sunkaddr84
  %.780 = load float, ptr %sunkaddr85, align 4
  %.784 = fadd reassoc nsz contract float %.780, %.774
  store float %.784, ptr %sunkaddr85, align 4
  %.739.1 = add nuw i64 %.732179181, 2
  %sunkaddr86 = mul i64 %.732179181, 4
  %sunkaddr87 = getelementptr i8, ptr %arg.m, i64 %sunkaddr86
  %sunkaddr88 = getelementptr i8, ptr %sunkaddr87, i64 4
  %.766.1 = load float, ptr %sunkaddr88, align 4
  %.768.1 = fmul reassoc nsz contract float %.766.1, 0x3FECCCCCC0000000
  %sunkaddr89 = mul i64 %.732179181, 4
  %sunkaddr90 = getelementptr i8, ptr %arg.g, i64 %sunkaddr89
  %sunkaddr91 = getelementptr i8, ptr %sunkaddr90, i64 4
  %.771.1 = load float, ptr %sunkaddr91, align 4
  %.773.1 = fmul reassoc nsz contract float %.771.1, %arg.rate
  %.774.1 = fsub reassoc nsz contract float %.768.1, %.773.1
  store float %.774.1, ptr %sunkaddr88, align 4
  %sunkaddr92 = mul i64 %.732179181, 4
  %sunkaddr93 = getelementptr i8, ptr %arg.w, i64 %sunkaddr92
  %sunkaddr94 = getelementptr i8, ptr %sunkaddr93, i64 4
  %.780.1 = load float, ptr %sunkaddr94, align 4
  %.784.1 = fadd reassoc nsz contract float %.780.1, %.774.1
  store float %.784.1, ptr %sunkaddr94, align 4
  %niter9.ncmp.1 = icmp eq i64 %unroll_iter8, %.739.1
  br i1 %niter9.ncmp.1, label %common.ret.loopexit.unr-lcssa, label %B1194.if
}

; Function Attrs: nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none)
declare double @llvm.pow.f64(double, double) #1

; Function Attrs: mustprogress nocallback nofree nosync nounwind willreturn memory(none)
declare float @sqrtf(float) local_unnamed_addr #4

attributes #0 = { nofree norecurse nosync nounwind memory(readwrite, inaccessiblemem: none, target_mem0: none, target_mem1: none) }
attributes #1 = { nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none) }
attributes #2 = { nofree norecurse nosync nounwind memory(argmem: readwrite) }
attributes #3 = { nocallback nofree nounwind willreturn memory(argmem: write) }
attributes #4 = { mustprogress nocallback nofree nosync nounwind willreturn memory(none) }

!0 = distinct !{!0, !1}
!1 = !{!"llvm.loop.unroll.disable"}
!2 = !{!"branch_weights", i32 1, i32 49, i32 49}
!3 = distinct !{!3, !1}
!4 = !{!5}
!5 = distinct !{!5, !6, !"gather: %retptr"}
!6 = distinct !{!6, !"gather"}
!7 = distinct !{!7, !1}
!8 = distinct !{!8, !1}
!9 = distinct !{!9, !1}
