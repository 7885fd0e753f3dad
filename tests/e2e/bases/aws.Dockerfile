# A stand-in of AWS's Python base images, in what matters to an image built on it: Python below
# /var/lang and first on the PATH, the runtime client and boto3 below /var/runtime, an entry point
# of its own that starts the emulator outside Lambda, an empty /var/task, no Covalent.
ARG PYTHON
FROM public.ecr.aws/docker/library/python:${PYTHON}-slim AS plain
RUN pip install --quiet --no-cache-dir --target /var/runtime awslambdaric boto3 \
 && cp -a /usr/local /var/lang

FROM public.ecr.aws/docker/library/python:${PYTHON}-slim
ENV LANG=C.UTF-8 TZ=:/etc/localtime \
    PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \
    LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/task:/opt/lib \
    LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime
RUN rm -rf /usr/local && mkdir -p /usr/local/bin /var/task
COPY --from=plain /var/lang /var/lang
COPY --from=plain /var/runtime /var/runtime
COPY aws-lambda-rie lambda-entrypoint.sh bootstrap /stand-in/
RUN cp /stand-in/aws-lambda-rie /usr/local/bin/ && cp /stand-in/bootstrap /var/runtime/ \
 && cp /stand-in/lambda-entrypoint.sh / && rm -r /stand-in && mkdir -p /opt/bin \
 && chmod 755 /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap /lambda-entrypoint.sh
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
