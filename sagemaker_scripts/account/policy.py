"""The minimal permissions that the scripts need in an account: the caller's, and those of SageMaker's role.

The caller's actions are those of the calls that the scripts make, and what AWS requires with
them; the role's are from SageMaker's documentation ("How to use SageMaker AI execution roles").
"""

import json

from sagemaker_scripts import aws, common

ROLE = "cnnlab-sagemaker"
DOCUMENTS = ("caller", "role", "trust")
# Placeholders for what is unknown without credentials.
NUMBER, REGION = "ACCOUNT", "REGION"
SERVICES = ["sagemaker.amazonaws.com", "scheduler.amazonaws.com"]
SCALING_SERVICE = "sagemaker.application-autoscaling.amazonaws.com"
# {sid: (actions, resources, condition if any)}; resources without a colon are SageMaker's.
CALLER = {
    "Look": (
        "sagemaker:ListModels sagemaker:ListEndpointConfigs sagemaker:ListEndpoints sagemaker:ListModelPackageGroups "
        "sagemaker:ListModelPackages sagemaker:ListTransformJobs sagemaker:ListTrainingJobs "
        "sagemaker:ListHyperParameterTuningJobs scheduler:ListSchedules cloudwatch:DescribeAlarms "
        "application-autoscaling:DescribeScalableTargets servicequotas:ListServiceQuotas s3:ListAllMyBuckets",
        ["*"],
    ),
    "Serve": (
        "sagemaker:CreateModel sagemaker:DeleteModel sagemaker:CreateEndpointConfig sagemaker:DeleteEndpointConfig "
        "sagemaker:CreateEndpoint sagemaker:DescribeEndpoint sagemaker:DeleteEndpoint sagemaker:InvokeEndpoint "
        "sagemaker:CreateModelPackageGroup sagemaker:DeleteModelPackageGroup sagemaker:CreateModelPackage "
        "sagemaker:DeleteModelPackage sagemaker:AddTags sagemaker:ListTags sagemaker:DescribeEndpointConfig "
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        ["model/", "endpoint-config/", "endpoint/", "model-package-group/", "model-package/", "transform-job/",
         "training-job/", "hyper-parameter-tuning-job/"],
    ),
    "Jobs": (
        "sagemaker:CreateTransformJob sagemaker:DescribeTransformJob sagemaker:StopTransformJob "
        "sagemaker:CreateTrainingJob sagemaker:DescribeTrainingJob sagemaker:StopTrainingJob "
        "sagemaker:CreateHyperParameterTuningJob sagemaker:DescribeHyperParameterTuningJob "
        "sagemaker:StopHyperParameterTuningJob",
        ["transform-job/", "training-job/", "hyper-parameter-tuning-job/"],
    ),
    "Bucket": (
        "s3:CreateBucket s3:ListBucket s3:PutBucketTagging s3:GetBucketTagging s3:DeleteBucket",
        ["arn:{partition}:s3:::{bucket}"],
    ),
    "Objects": (
        "s3:PutObject s3:GetObject s3:DeleteObject s3:AbortMultipartUpload",
        ["arn:{partition}:s3:::{bucket}/cnnlab*"],
    ),
    "Ends": (
        "scheduler:CreateSchedule scheduler:DeleteSchedule cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms "
        "cloudwatch:TagResource",
        ["arn:{partition}:scheduler:{region}:{number}:schedule/default/cnnlab-*",
         "arn:{partition}:cloudwatch:{region}:{number}:alarm:cnnlab-*",
         # Application Auto Scaling creates its own alarms in the caller's name.
         "arn:{partition}:cloudwatch:{region}:{number}:alarm:TargetTracking-endpoint/cnnlab-*"],
    ),
    "Scaling": (
        "application-autoscaling:RegisterScalableTarget application-autoscaling:PutScalingPolicy "
        "application-autoscaling:DeregisterScalableTarget",
        ["arn:{partition}:application-autoscaling:{region}:{number}:scalable-target/*"],
    ),
    "Logs": (
        "logs:FilterLogEvents", ["arn:{partition}:logs:{region}:{number}:log-group:/aws/sagemaker/TransformJobs:*"]
    ),
    "FindRole": ("iam:GetRole", ["{role}"]),
    "PassRole": ("iam:PassRole", ["{role}"], {"StringEquals": {"iam:PassedToService": SERVICES}}),
    "FirstScaling": (
        "iam:CreateServiceLinkedRole",
        ["arn:{partition}:iam::{number}:role/aws-service-role/" + SCALING_SERVICE
         + "/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"],
        {"StringEquals": {"iam:AWSServiceName": SCALING_SERVICE}},
    ),
}  # fmt: skip
ROLE_ACTIONS = {
    "Objects": (
        "s3:GetObject s3:PutObject s3:AbortMultipartUpload", ["arn:{partition}:s3:::{bucket}/cnnlab*"]
    ),
    "Bucket": ("s3:ListBucket", ["arn:{partition}:s3:::{bucket}"]),
    "Registry": ("ecr:GetAuthorizationToken", ["*"]),
    "Images": (
        "ecr:BatchCheckLayerAvailability ecr:GetDownloadUrlForLayer ecr:BatchGetImage",
        ["arn:{partition}:ecr:{region}:*:repository/tensorflow-*"],
    ),
    "Logs": (
        "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents logs:DescribeLogStreams",
        ["arn:{partition}:logs:{region}:{number}:log-group:/aws/sagemaker/*"],
    ),
    "Ends": ("sagemaker:DeleteEndpoint", ["endpoint/"]),
    "Metrics": (
        "cloudwatch:PutMetricData", ["*"],
        {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker*"]}},
    ),
}  # fmt: skip
VPC_ACTIONS = (
    "ec2:CreateNetworkInterface ec2:CreateNetworkInterfacePermission ec2:DeleteNetworkInterface "
    "ec2:DeleteNetworkInterfacePermission ec2:DescribeNetworkInterfaces ec2:DescribeVpcs ec2:DescribeDhcpOptions "
    "ec2:DescribeSubnets ec2:DescribeSecurityGroups"
)
KEY_ACTIONS = "kms:Decrypt kms:GenerateDataKey kms:CreateGrant kms:DescribeKey"


def documents(access=None, number=NUMBER, region=REGION, partition="aws"):
    """{"caller": policy, "role": policy, "trust": the role's trust policy}, each a dict for JSON.

    `access`: an `aws.Access`; its bucket and role replace the defaults, and its key and VPC need more permissions.
    """
    access = access or aws.Access()
    role = access.role or ROLE
    place = {
        "partition": partition, "region": region, "number": number,
        "bucket": access.bucket or f"sagemaker-{region}-{number}",
        "role": role if role.startswith("arn:") else f"arn:{partition}:iam::{number}:role/{role}",
    }  # fmt: skip
    key = {"Key": (KEY_ACTIONS, [_key_arn(access.kms_key)])} if access.kms_key else {}
    vpc = {"Vpc": (VPC_ACTIONS, ["*"])} if access.subnets else {}
    trust = {
        "Effect": "Allow", "Principal": {"Service": SERVICES}, "Action": "sts:AssumeRole",
        # Both services work for many accounts; they may use this role only for this one.
        "Condition": {"StringEquals": {"aws:SourceAccount": number}},
    }  # fmt: skip
    found = {
        "caller": _statements(CALLER | key, place), "role": _statements(ROLE_ACTIONS | vpc | key, place),
        "trust": [trust],
    }  # fmt: skip
    return {name: {"Version": "2012-10-17", "Statement": statements} for name, statements in found.items()}


def show(which, access):
    """Print one of DOCUMENTS as JSON, or, for "all", the three by name; for the caller's account if known."""
    session = access.session()
    place = {"region": session.region_name or REGION}
    if aws.has_credentials(session):
        account = aws.identify(access)
        place = {"number": account.number, "region": account.region}
        place["partition"] = session.get_partition_for_region(account.region)
    found = documents(access, **place)
    print(json.dumps(found if which == "all" else found[which], indent=1))


def _statements(table, place):
    return [
        {
            "Sid": sid,
            "Effect": "Allow",
            "Action": actions.split(),
            "Resource": [_resource(resource).format(**place) for resource in resources],
            **({"Condition": condition[0]} if condition else {}),
        }
        for sid, (actions, resources, *condition) in table.items()
    ]


def _resource(text):
    if text == "*" or ":" in text or text.startswith("{"):
        return text
    return f"arn:{{partition}}:sagemaker:{{region}}:{{number}}:{text}{aws.PREFIX}*"


def _key_arn(key):
    """The ARN for a key's ID or ARN; raises BadArgumentsError for an alias, which a policy cannot name."""
    if key.startswith("arn:"):
        return key
    if key.startswith("alias/"):
        raise common.BadArgumentsError(f"a policy cannot name an alias: give --kms-key the ID or ARN of {key}")
    return f"arn:{{partition}}:kms:{{region}}:{{number}}:key/{key}"
